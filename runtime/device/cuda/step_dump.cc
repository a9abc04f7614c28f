#include "runtime/device/cuda/step_dump.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

namespace ll {
namespace {

uint64_t rows(const Operand& o, const Step& step) {
  switch (o.type.dim(0).symbol) {
    case Symbol::kT:
      return step.token_count();
    case Symbol::kR:
      return step.row_count();
    case Symbol::kS:
      return step.sequence_count;
    case Symbol::kNone:
      break;
  }
  return static_cast<uint64_t>(o.type.dim(0).value);
}

}  // namespace

uint64_t StepDump::bytes(const Operand& o, const Step& step) {
  if (o.space == Space::kKv) return 0;
  return rows(o, step) * static_cast<uint64_t>(dense_row_bytes(o.type));
}

Result<StepDump> StepDump::create(const std::string& folder, uint64_t number, const Program& program,
                                  const Step& step) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return error(Code::kCannotCreate, "cannot make the folder {}: {}", folder, failed.message());
  std::vector<safetensors::Tensor> tensors;
  for (size_t i = 0; i < program.launches.size(); ++i) {
    const Launch& l = program.launches[i];
    for (size_t o = 0; o < l.outputs.size(); ++o) {
      if (bytes(l.outputs[o], step) == 0) continue;
      const TensorType& type = l.outputs[o].type;
      const bool floats = type.dtype == DType::kF32;
      const auto columns = static_cast<uint64_t>(floats ? type.last().value : dense_row_bytes(type));
      const std::string name = fmt::format("{:04} {} %{}", i, l.kernel->name, l.op);
      tensors.push_back({o == 0 ? name : fmt::format("{}.{}", name, o),
                         floats ? safetensors::DType::kF32 : safetensors::DType::kU8,
                         {rows(l.outputs[o], step), columns},
                         0,
                         0});
    }
  }
  TRY_ASSIGN(auto writer,
             safetensors::Writer::create(fmt::format("{}/{:05}-{}.safetensors", folder, number, program.name),
                                         std::move(tensors)));
  return StepDump(std::move(writer));
}

}  // namespace ll
