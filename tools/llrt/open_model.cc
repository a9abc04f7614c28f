#include "tools/llrt/open_model.h"

namespace ll {

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("plan", options.plan, "plan made by llcc compile")->required()->type_name("PLAN");
  app.add_option("-t,--threads", options.threads,
                 "threads (default: one per physical core that affinity and cgroup allow)")
      ->check(CLI::Range(1, 256))
      ->type_name("N");
  app.add_option("--numa", options.numa,
                 "several NUMA nodes: auto, off (threads and memory as the system likes) or a node's number: run on it "
                 "(default: auto)")
      ->type_name("NODE");
  app.add_option("--isa", options.isa,
                 "instruction set of the kernels: scalar, avx2, avx-vnni, avx512-vnni or amx (default: the best here)")
      ->check(CLI::IsMember({"scalar", "avx2", "avx-vnni", "avx512-vnni", "amx"}))
      ->type_name("LEVEL");
  app.add_flag(
      "--deterministic", options.deterministic,
      "the same logits whatever shares a step: level avx512-vnni does not choose faster arithmetic for prompts, "
      "nor amx for prompts and single tokens; other levels and GPUs are always so");
  app.add_option("--model-dir", options.model_dir, "folder of the files that a plan with --weights reference names")
      ->type_name("DIR");
  app.add_option("--device", options.device,
                 "cpu, cuda or cuda:N (default: a GPU that the plan has code for, else the CPU)")
      ->type_name("DEVICE");
  auto* plain = app.add_flag("--no-graphs", options.no_graphs, "GPUs: launch kernel after kernel, without graphs");
  app.add_flag("--check-launches", options.check_launches, "GPUs: wait for each kernel, so that an error names it")
      ->excludes(plain);
  app.add_flag("--time-launches", options.time_launches, "print what each kernel took to stderr at the end")
      ->excludes(plain)
      ->excludes("--check-launches");
  app.add_option("--dump-tensors", options.dump_folder,
                 "GPUs: what each launch wrote, into this folder, a safetensors file a step")
      ->excludes("--check-launches")
      ->excludes("--time-launches")
      ->type_name("DIR");
}

llrt::Model open_model(const ModelOptions& options) {
  llrt::OpenParams params;
  params.threads = options.threads;
  if (!options.numa.empty()) params.numa = options.numa.c_str();
  if (!options.isa.empty()) params.isa = options.isa.c_str();
  params.deterministic = options.deterministic ? 1 : 0;
  if (!options.model_dir.empty()) params.model_dir = options.model_dir.c_str();
  if (!options.device.empty()) params.device = options.device.c_str();
  if (!options.dump_folder.empty()) params.dump_folder = options.dump_folder.c_str();
  params.launch_mode = options.time_launches ? 3 : options.check_launches ? 2 : options.no_graphs ? 1 : 0;
  return llrt::Model(options.plan, params);
}

}  // namespace ll
