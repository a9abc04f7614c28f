// The metadata section of a plan: schemas/plan.fbs.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/plan/plan.h"

namespace ll {

// The same plan gives the same bytes. Equal types, operands, attributes and names are stored once and shared.
std::vector<std::byte> encode_metadata(const Plan& plan);

}  // namespace ll
