// Stacks to switch between, on one host thread.
#pragma once

#include <cstddef>

namespace ll::cuda {

#if defined(__x86_64__) && defined(__linux__)
inline constexpr bool kHasFibers = true;
#else
inline constexpr bool kHasFibers = false;
#endif

// A stack of `bytes` above memory that may not be touched; null when there is no memory. Never freed: callers keep it.
std::byte* allocate_stack(size_t bytes);

// Where a new fiber on this stack starts. `entry` must not return.
void* prepare_fiber(std::byte* stack, size_t bytes, void (*entry)());

// Saves where the caller is in *from and goes on at `to`.
void switch_fiber(void** from, void* to);

}  // namespace ll::cuda
