// A small cubin with the parts that cubin.h describes, built byte by byte. For tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace ll::crafted {

struct CraftedKernel {
  std::string name;
  uint32_t registers = 0, shared_bytes = 0, local_bytes = 0;
  std::string code = "0123456789abcdef";
};

class CubinBuilder {
 public:
  // Sections: 0 none, 1 their names, 2 names of symbols, 3 symbols, 4 .nv.info, then .text.X and .nv.shared.X of each
  // kernel. The section table is last. Toolkit 13 writes another ABI.
  static std::vector<std::byte> build(uint32_t sm, const std::vector<CraftedKernel>& kernels, bool toolkit13 = false) {
    return CubinBuilder().run(sm, kernels, toolkit13);
  }

  static constexpr size_t kTableOffset = 40, kFlags = 48, kEntryBytes = 58, kSections = 60,
                          kNames = 62;                                                 // in the header
  static constexpr size_t kName = 0, kType = 4, kOffset = 24, kSize = 32, kLink = 40;  // in an entry
  enum : uint32_t { kNameSection = 1, kStringSection, kSymbolSection, kInfoSection, kFirstText };

 private:
  struct Entry {
    uint32_t name = 0, type = 0, link = 0;
    uint64_t offset = 0, size = 0;
  };

  template <class T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static uint32_t text(std::string& table, const std::string& value) {
    const auto at = static_cast<uint32_t>(table.size());
    table += value;
    table.push_back('\0');
    return at;
  }
  void section(const std::string& name, uint32_t type, uint32_t link, const std::string& contents) {
    entries_.push_back({text(names_, name), type, link, body_.size(), contents.size()});
    body_ += contents;
    body_.resize((body_.size() + 7) / 8 * 8);
  }

  std::vector<std::byte> run(uint32_t sm, const std::vector<CraftedKernel>& kernels, bool toolkit13) {
    std::string strings(1, '\0'), symbols(24, '\0'), info;
    for (const CraftedKernel& k : kernels) {
      const auto index = static_cast<uint32_t>(symbols.size() / 24);
      put(symbols, text(strings, k.name));
      symbols.resize(symbols.size() + 20);
      for (const auto& [attribute, value] : {std::pair(0x2f, k.registers), std::pair(0x11, k.local_bytes)}) {
        put<uint8_t>(info, 4);
        put<uint8_t>(info, static_cast<uint8_t>(attribute));
        put<uint16_t>(info, 8);
        put(info, index);
        put(info, value);
      }
    }
    put<uint32_t>(info, 0x00010203);  // an attribute without a size
    body_.assign(64, '\0');
    entries_.push_back({});
    names_.assign(1, '\0');
    entries_.push_back({text(names_, ".shstrtab"), 3, 0, 0, 0});  // filled last
    section(".strtab", 3, 0, strings);
    section(".symtab", 2, kStringSection, symbols);
    section(".nv.info", 0x70000000, kSymbolSection, info);
    for (const CraftedKernel& k : kernels) {
      section(".text." + k.name, 1, 0, k.code);
      section(".nv.shared." + k.name, 8, 0, "");
      entries_.back().size = k.shared_bytes;
    }
    entries_[kNameSection].offset = body_.size();
    entries_[kNameSection].size = names_.size();
    body_ += names_;
    body_.resize((body_.size() + 7) / 8 * 8);
    const uint64_t table = body_.size();
    for (const Entry& e : entries_) {
      put(body_, e.name);
      put(body_, e.type);
      put<uint64_t>(body_, 0);
      put<uint64_t>(body_, 0);
      put(body_, e.offset);
      put(body_, e.size);
      put(body_, e.link);
      body_.resize(body_.size() + 20);
    }
    const char magic[] = {'\x7f',
                          'E',
                          'L',
                          'F',
                          2,
                          1,
                          1,
                          static_cast<char>(toolkit13 ? 0x41 : 0x33),
                          static_cast<char>(toolkit13 ? 8 : 7)};
    std::memcpy(body_.data(), magic, sizeof magic);
    const auto set = [&]<class T>(size_t at, T value) { std::memcpy(body_.data() + at, &value, sizeof value); };
    set(18, uint16_t{190});
    set(kTableOffset, table);
    set(kFlags, toolkit13 ? sm << 8 : sm);
    set(kEntryBytes, uint16_t{64});
    set(kSections, static_cast<uint16_t>(entries_.size()));
    set(kNames, static_cast<uint16_t>(kNameSection));
    std::vector<std::byte> bytes(body_.size());
    std::memcpy(bytes.data(), body_.data(), body_.size());
    return bytes;
  }

  std::string body_, names_;
  std::vector<Entry> entries_;
};

}  // namespace ll::crafted
