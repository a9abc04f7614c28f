# Pass tests: .llir files whose RUN lines pipe llcc's output through FileCheck. cmake/lit.cmake writes the site
# configuration that names the programs.
import lit.formats

config.name = "llcuda"
config.suffixes = [".llir"]
config.test_format = lit.formats.ShTest(execute_external=False)
config.test_source_root = config.llcuda_tests
config.test_exec_root = config.llcuda_output
config.environment["ASAN_OPTIONS"] = "detect_leaks=0"
config.substitutions += [
    (r"\bllcc\b", config.llcc),
    (r"\bFileCheck\b", config.filecheck),
    (r"\bnot\b", config.not_program),
]
