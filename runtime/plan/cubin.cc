#include "runtime/plan/cubin.h"

#include <algorithm>
#include <map>
#include <utility>

#include "runtime/base/byte_reader.h"
#include "runtime/base/checked.h"

namespace ll {
namespace {

constexpr uint16_t kMachineCuda = 190;
constexpr size_t kElfHeader = 64, kSectionEntry = 64, kSymbolEntry = 24;
constexpr uint32_t kSymbolTable = 2, kNoBits = 8;
constexpr uint8_t kFormatSized = 4;  // of an attribute: a size, then that many bytes
constexpr uint8_t kRegisterCount = 0x2f, kFrameSize = 0x11;
constexpr std::string_view kText = ".text.", kShared = ".nv.shared.", kReserved = ".nv.shared.reserved.";

struct ElfSection {
  std::string_view name;
  uint32_t type = 0, link = 0;
  uint64_t offset = 0, size = 0;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Result<Cubin> read() {
    TRY(header());
    TRY(sections());
    for (const ElfSection& s : sections_) {
      if (s.name.starts_with(kText)) {
        const std::string_view function = s.name.substr(kText.size());
        if (!by_name_.emplace(function, cubin_.kernels.size()).second) {
          return bad_data("section {} appears twice", s.name);
        }
        cubin_.kernels.push_back({function});
        if (s.type != kNoBits) cubin_.kernels.back().code = bytes_.subspan(s.offset, s.size);
      }
    }
    for (const ElfSection& s : sections_) {
      if (s.name.starts_with(kShared) && !s.name.starts_with(kReserved)) {
        if (s.size > UINT32_MAX) return bad_data("section {} has {} bytes", s.name, s.size);
        if (CubinKernel* k = kernel(s.name.substr(kShared.size()))) k->shared_bytes = static_cast<uint32_t>(s.size);
      } else if (s.name == ".nv.info") {
        // Sections may overlap: walked once each, a small file could be walked for very long.
        if (std::exchange(attributes_read_, true)) return bad_data("section {} appears twice", s.name);
        TRY(attributes(s));
      }
    }
    return std::move(cubin_);
  }

 private:
  Status header() {
    ByteReader r(bytes_);
    TRY_ASSIGN(const std::string_view magic, r.text(4));
    if (magic !=
        "\x7f"
        "ELF") {
      return bad_data("not a cubin: it does not begin as an ELF file");
    }
    TRY_ASSIGN(const auto bits, r.read<uint8_t>());
    TRY_ASSIGN(const auto order, r.read<uint8_t>());
    TRY(r.seek(7));
    TRY_ASSIGN(const auto system, r.read<uint8_t>());
    TRY_ASSIGN(const auto version, r.read<uint8_t>());
    TRY(r.seek(18));
    TRY_ASSIGN(const auto machine, r.read<uint16_t>());
    if (bits != 2 || order != 1 || machine != kMachineCuda) {
      return bad_data("an ELF file of class {}, byte order {} and machine {}, expected 2, 1 and {}", bits, order,
                      machine, kMachineCuda);
    }
    TRY(r.seek(40));
    TRY_ASSIGN(table_, r.read<uint64_t>());
    TRY_ASSIGN(const auto flags, r.read<uint32_t>());
    TRY(r.seek(58));
    TRY_ASSIGN(const auto entry, r.read<uint16_t>());
    TRY_ASSIGN(count_, r.read<uint16_t>());
    TRY_ASSIGN(names_, r.read<uint16_t>());
    static_assert(kElfHeader == 64);
    if (entry != kSectionEntry) return bad_data("section entries of {} bytes, expected {}", entry, kSectionEntry);
    if (count_ > kMostCubinSections)
      return bad_data("{} sections, more than the limit of {}", count_, kMostCubinSections);
    if (names_ >= count_) return bad_data("names in section {} of {}", names_, count_);
    cubin_.abi_version = version;
    if (system == 0x33 && version == 7) {
      cubin_.sm = flags & 0xff;
    } else if (system == 0x41 && version == 8) {
      cubin_.sm = flags >> 8 & 0xff;
    } else {
      return unsupported("a cubin of ABI {:#x} version {}, this build knows 0x33 version 7 and 0x41 version 8", system,
                         version);
    }
    return {};
  }

  Status sections() {
    ByteReader r(bytes_);
    TRY(r.seek(table_));
    std::vector<uint32_t> names;
    for (uint32_t i = 0; i < count_; ++i) {
      ElfSection s;
      TRY_ASSIGN(const auto name, r.read<uint32_t>());
      TRY_ASSIGN(s.type, r.read<uint32_t>());
      TRY(r.bytes(16));  // flags, address
      TRY_ASSIGN(s.offset, r.read<uint64_t>());
      TRY_ASSIGN(s.size, r.read<uint64_t>());
      TRY_ASSIGN(s.link, r.read<uint32_t>());
      TRY(r.bytes(20));  // info, alignment, entry size
      if (s.type != kNoBits && !fits(s.offset, s.size, bytes_.size())) {
        return bad_data("section {}: {} bytes at {} reach beyond the end ({} bytes)", i, s.size, s.offset,
                        bytes_.size());
      }
      names.push_back(name);
      sections_.push_back(s);
    }
    for (uint32_t i = 0; i < count_; ++i) {
      TRY_ASSIGN(sections_[i].name, name(sections_[names_], names[i]));
    }
    return {};
  }

  // The zero-terminated string at `offset` of a string table.
  Result<std::string_view> name(const ElfSection& table, uint32_t offset) const {
    if (table.type == kNoBits || offset >= table.size) {
      return bad_data("a name at {} of a string table of {} bytes", offset, table.size);
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + table.offset), table.size);
    const size_t end = text.find('\0', offset);
    if (end == text.npos) return bad_data("the name at {} does not end", offset);
    if (end - offset > 1024) return bad_data("a name of {} bytes, more than the limit of 1024", end - offset);
    return text.substr(offset, end - offset);
  }

  CubinKernel* kernel(std::string_view function) {
    const auto it = by_name_.find(function);
    return it == by_name_.end() ? nullptr : &cubin_.kernels[it->second];
  }

  Result<std::string_view> symbol(const ElfSection& table, uint32_t index) const {
    if (table.type != kSymbolTable || index >= table.size / kSymbolEntry || table.link >= sections_.size()) {
      return bad_data("symbol {} of a table of {}", index, table.size / kSymbolEntry);
    }
    ByteReader r(bytes_);
    TRY(r.seek(table.offset + uint64_t{index} * kSymbolEntry));
    TRY_ASSIGN(const auto at, r.read<uint32_t>());
    return name(sections_[table.link], at);
  }

  Status attributes(const ElfSection& s) {
    if (s.type == kNoBits) return bad_data("section {} has no bytes", s.name);
    if (s.link >= sections_.size()) return bad_data("section {} links to section {}", s.name, s.link);
    ByteReader r(bytes_.subspan(s.offset, s.size));
    while (r.remaining() > 0) {
      TRY_ASSIGN(const auto format, r.read<uint8_t>());
      TRY_ASSIGN(const auto attribute, r.read<uint8_t>());
      TRY_ASSIGN(const auto size, r.read<uint16_t>());
      if (format != kFormatSized) continue;
      TRY_ASSIGN(const auto value, r.bytes(size));
      if (attribute != kRegisterCount && attribute != kFrameSize) continue;
      ByteReader v(value);
      TRY_ASSIGN(const auto index, v.read<uint32_t>());
      TRY_ASSIGN(const auto number, v.read<uint32_t>());
      TRY_ASSIGN(const auto function, symbol(sections_[s.link], index));
      CubinKernel* k = kernel(function);
      if (k == nullptr) continue;
      (attribute == kRegisterCount ? k->registers : k->local_bytes) = number;
    }
    return {};
  }

  const std::span<const std::byte> bytes_;
  Cubin cubin_;
  uint64_t table_ = 0;
  uint16_t count_ = 0, names_ = 0;
  std::vector<ElfSection> sections_;
  std::map<std::string_view, size_t> by_name_;
  bool attributes_read_ = false;
};

}  // namespace

const CubinKernel* Cubin::find(std::string_view function) const {
  const auto it = std::find_if(kernels.begin(), kernels.end(), [&](const auto& k) { return k.function == function; });
  return it == kernels.end() ? nullptr : &*it;
}

Result<Cubin> read_cubin(std::span<const std::byte> bytes) {
  auto cubin = Reader(bytes).read();
  if (!cubin) return std::move(cubin).error().in("cubin");
  return cubin;
}

uint32_t least_driver(uint32_t abi_version) { return abi_version >= 8 ? 13000 : 12000; }

}  // namespace ll
