#include "runtime/base/file_magic.h"

#include <algorithm>
#include <string>

namespace ll {
namespace {

struct Row {
  std::string_view start;
  std::string_view what;
};

constexpr std::string_view kHtml = "an HTML page (a download that asked for a login or failed)";
constexpr std::string_view kOldGgml = "a GGML file from before GGUF (convert the original model again)";

// Compared in order; `start` is lower case and matched without regard to case.
constexpr Row kRows[] = {
    {"version https://git-lfs", "a git-lfs pointer (the file itself was not downloaded: run git lfs pull)"},
    {"gguf", "a GGUF file"},
    {"\x89llcp\r\n\x1a", "a plan"},
    {"pk\x03\x04", "a ZIP archive, as PyTorch writes it (convert it to safetensors)"},
    {"\x80\x02", "a pickle (convert it to safetensors)"},
    {"\x80\x03", "a pickle (convert it to safetensors)"},
    {"\x80\x04", "a pickle (convert it to safetensors)"},
    {"\x80\x05", "a pickle (convert it to safetensors)"},
    {"lmgg", kOldGgml},
    {"fmgg", kOldGgml},
    {"tjgg", kOldGgml},
    {"\x1f\x8b", "a gzip archive (unpack it)"},
    {"\x28\xb5\x2f\xfd", "a zstd archive (unpack it)"},
    {"7z\xbc\xaf", "a 7-Zip archive (unpack it)"},
    {"\x89hdf\r\n", "an HDF5 file (convert it to safetensors)"},
    {"\x7f"
     "elf",
     "a program"},
    {"<!doctype html", kHtml},
    {"<html", kHtml},
    {"<?xml", "an XML document (a download that failed)"},
};

// The first bytes, in lower case.
std::string head_of(std::span<const std::byte> bytes) {
  std::string head;
  for (const std::byte b : bytes.first(std::min<size_t>(bytes.size(), 512))) {
    const char c = static_cast<char>(b);
    head.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return head;
}

}  // namespace

FileKind file_kind(std::span<const std::byte> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (head.starts_with("GGUF")) return FileKind::kGguf;
  return head.starts_with("\x89LLCP") ? FileKind::kPlan : FileKind::kOther;
}

std::string_view recognize(std::span<const std::byte> bytes) {
  const std::string head = head_of(bytes);
  for (const Row& row : kRows) {
    if (head.starts_with(row.start)) return row.what;
  }
  const size_t text = head.find_first_not_of(" \t\r\n");
  if (text != std::string::npos && head.compare(text, 1, "<") == 0) return kHtml;
  return {};
}

}  // namespace ll
