// Cubins made by hand, intact and damaged. Those of NVRTC: compiler/codegen/nvrtc_test.cc.
#include "runtime/plan/cubin.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "runtime/plan/crafted_cubin.h"

namespace ll {
namespace {

using Bytes = std::vector<std::byte>;
using Builder = crafted::CubinBuilder;

const std::vector<crafted::CraftedKernel> kKernels = {{"gemv_1", 40, 2048, 0, "abcd"},
                                                      {"rope_2", 255, 0, 16, "efghij"}};

// An intact cubin to change.
struct Intact {
  Bytes bytes = Builder::build(75, kKernels);

  template <class T>
  T get(size_t at) const {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  template <class T>
  void set(size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  size_t entry(uint32_t section, size_t field) const {
    return get<uint64_t>(Builder::kTableOffset) + 64 * uint64_t{section} + field;
  }
  size_t start(uint32_t section) const { return get<uint64_t>(entry(section, Builder::kOffset)); }
};

struct Case {
  const char* name;
  void (*change)(Intact&);
  const char* message;  // part of it
  Code code = Code::kBadData;
};

constexpr Case kCases[] = {
    {"empty", [](Intact& c) { c.bytes.clear(); }, "truncated"},
    {"not ELF", [](Intact& c) { c.set(0, 'x'); }, "does not begin as an ELF file"},
    {"32 bits", [](Intact& c) { c.set(4, uint8_t{1}); }, "class 1"},
    {"big-endian", [](Intact& c) { c.set(5, uint8_t{2}); }, "byte order 2"},
    {"an x86 file", [](Intact& c) { c.set(18, uint16_t{62}); }, "machine 62"},
    {"ABI of tomorrow", [](Intact& c) { c.set(8, uint8_t{9}); }, "version 9", Code::kUnsupported},
    {"unknown system", [](Intact& c) { c.set(7, uint8_t{0x55}); }, "ABI 0x55", Code::kUnsupported},
    {"entries of another size", [](Intact& c) { c.set(Builder::kEntryBytes, uint16_t{40}); }, "entries of 40 bytes"},
    {"too many sections", [](Intact& c) { c.set(Builder::kSections, uint16_t{4097}); }, "4097 sections"},
    {"names nowhere", [](Intact& c) { c.set(Builder::kNames, uint16_t{99}); }, "names in section 99"},
    {"no sections", [](Intact& c) { c.set(Builder::kSections, uint16_t{0}); }, "names in section 1 of 0"},
    {"table beyond the end", [](Intact& c) { c.set(Builder::kTableOffset, uint64_t{1} << 40); }, "beyond the end"},
    {"table offset wraps", [](Intact& c) { c.set(Builder::kTableOffset, ~uint64_t{0}); }, "beyond the end"},
    {"table cut", [](Intact& c) { c.bytes.pop_back(); }, "truncated"},
    {"section beyond the end",
     [](Intact& c) { c.set(c.entry(Builder::kFirstText, Builder::kSize), uint64_t{1} << 20); }, "reach beyond the end"},
    {"section wraps", [](Intact& c) { c.set(c.entry(Builder::kFirstText, Builder::kOffset), ~uint64_t{0}); },
     "reach beyond the end"},
    {"names without bytes", [](Intact& c) { c.set(c.entry(Builder::kNameSection, Builder::kType), 8u); },
     "string table"},
    {"name beyond the table", [](Intact& c) { c.set(c.entry(Builder::kFirstText, Builder::kName), 1u << 20); },
     "a name at 1048576"},
    {"name without end",
     [](Intact& c) { c.set(c.entry(Builder::kNameSection, Builder::kSize), c.get<uint64_t>(c.entry(1, 32)) - 1); },
     "does not end"},
    {"one function twice",
     [](Intact& c) {
       c.set(c.entry(Builder::kFirstText + 2, Builder::kName), c.get<uint32_t>(c.entry(Builder::kFirstText, 0)));
     },
     ".text.gemv_1 appears twice"},
    {"shared memory beyond 32 bits",
     [](Intact& c) { c.set(c.entry(Builder::kFirstText + 1, Builder::kSize), uint64_t{1} << 32); },
     ".nv.shared.gemv_1 has 4294967296 bytes"},
    {"attributes without bytes", [](Intact& c) { c.set(c.entry(Builder::kInfoSection, Builder::kType), 8u); },
     "has no bytes"},
    {"attributes twice",
     [](Intact& c) {
       c.set(c.entry(Builder::kSymbolSection, Builder::kName), c.get<uint32_t>(c.entry(Builder::kInfoSection, 0)));
     },
     ".nv.info appears twice"},
    {"attributes of no symbols", [](Intact& c) { c.set(c.entry(Builder::kInfoSection, Builder::kLink), 77u); },
     "links to section 77"},
    {"attributes of text", [](Intact& c) { c.set(c.entry(Builder::kInfoSection, Builder::kLink), 2u); }, "symbol 1"},
    {"symbols of no names", [](Intact& c) { c.set(c.entry(Builder::kSymbolSection, Builder::kLink), 77u); },
     "symbol 1"},
    {"no such symbol", [](Intact& c) { c.set(c.start(Builder::kInfoSection) + 4, 3u); }, "symbol 3 of a table of 3"},
    {"attribute cut", [](Intact& c) { c.set(c.entry(Builder::kInfoSection, Builder::kSize), uint64_t{10}); },
     "8 bytes wanted, 6 left"},
    {"attribute too short", [](Intact& c) { c.set(c.start(Builder::kInfoSection) + 2, uint16_t{4}); }, "truncated"},
};

TEST(Cubin, TellsWhatKernelsUse) {
  for (const bool toolkit13 : {false, true}) {
    const Bytes bytes = Builder::build(90, kKernels, toolkit13);
    const auto cubin = read_cubin(bytes);
    ASSERT_TRUE(cubin) << cubin.error().message;
    EXPECT_EQ(cubin->sm, 90u);
    EXPECT_EQ(least_driver(cubin->abi_version), toolkit13 ? 13000u : 12000u);
    ASSERT_EQ(cubin->kernels.size(), kKernels.size());
    for (const crafted::CraftedKernel& want : kKernels) {
      const CubinKernel* k = cubin->find(want.name);
      ASSERT_NE(k, nullptr) << want.name;
      EXPECT_EQ(k->registers, want.registers);
      EXPECT_EQ(k->shared_bytes, want.shared_bytes);
      EXPECT_EQ(k->local_bytes, want.local_bytes);
      EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(k->code.data()), k->code.size()), want.code);
    }
    EXPECT_EQ(cubin->find("gemv"), nullptr);
  }
}

TEST(Cubin, IsRefusedWithAReason) {
  for (const Case& c : kCases) {
    Intact cubin;
    c.change(cubin);
    const auto read = read_cubin(cubin.bytes);
    ASSERT_FALSE(read) << c.name;
    EXPECT_EQ(read.error().code, c.code) << c.name << ": " << read.error().message;
    EXPECT_NE(read.error().message.find(c.message), std::string::npos) << c.name << ": " << read.error().message;
  }
}

TEST(Cubin, CutOrFlippedAnywhereItIsHarmless) {
  const Bytes bytes = Builder::build(75, kKernels);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(read_cubin(Bytes(bytes.begin(), bytes.begin() + static_cast<long>(size)))) << size;
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const unsigned flip : {0x01u, 0x80u, 0xffu}) {
      Bytes damaged = bytes;
      damaged[i] ^= static_cast<std::byte>(flip);
      const auto read = read_cubin(damaged);  // a number may change and be fine
      EXPECT_TRUE(read || read.error().code == Code::kBadData || read.error().code == Code::kUnsupported) << i;
    }
  }
}

// Not a test: with LLCUDA_WRITE_CORPUS=FOLDER, writes seeds for cubin_fuzz.cc there.
TEST(Cubin, Corpus) {
  const char* folder = std::getenv("LLCUDA_WRITE_CORPUS");
  if (folder == nullptr) GTEST_SKIP() << "LLCUDA_WRITE_CORPUS names no folder";
  const auto save = [&](const std::string& name, const Bytes& bytes) {
    std::ofstream out(fmt::format("{}/{}", folder, name), std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  save("toolkit-12", Builder::build(75, kKernels));
  save("toolkit-13", Builder::build(90, kKernels, true));
  save("no-kernels", Builder::build(75, {}));
  for (const Case& c : kCases) {
    Intact cubin;
    c.change(cubin);
    std::string name = c.name;
    std::replace(name.begin(), name.end(), ' ', '-');
    save(name, cubin.bytes);
  }
}

}  // namespace
}  // namespace ll
