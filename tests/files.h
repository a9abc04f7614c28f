// Files that tests read.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace ll::test_files {

// Reference models and vectors that are not part of the repository; may be absent. LLCUDA_SHARED says where else they
// are.
inline std::filesystem::path shared_folder() {
  const char* other = std::getenv("LLCUDA_SHARED");
  return other != nullptr ? other : LLCUDA_SOURCE_DIR "/../shared";
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace ll::test_files
