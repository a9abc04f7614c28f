#include "kernels/cuda/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#if defined(__x86_64__) && defined(__linux__)
// The registers that a call keeps, by the System V ABI; the control words of the FPU are never changed.
asm(R"(
.text
.globl ll_switch_fiber
.hidden ll_switch_fiber
.type ll_switch_fiber, @function
ll_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ll_switch_fiber, .-ll_switch_fiber
)");
extern "C" void ll_switch_fiber(void** from, void* to);
#endif

namespace ll::cuda {

std::byte* allocate_stack(size_t bytes) {
  constexpr size_t kGuard = 4096;
  void* memory =
      mmap(nullptr, bytes + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  if (mprotect(memory, kGuard, PROT_NONE) != 0) return nullptr;
  return static_cast<std::byte*>(memory) + kGuard;
}

void* prepare_fiber(std::byte* stack, size_t bytes, void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, bytes);  // of what a fiber left on it that never returned
#endif
  // Six registers and the address to return to; behind it one word, so that `entry` begins as if called.
  auto* top = reinterpret_cast<uint64_t*>(stack + bytes) - 2;
  top[0] = reinterpret_cast<uint64_t>(entry);
  top[1] = 0;
  for (int i = 1; i <= 6; ++i) top[-i] = 0;
  return top - 6;
}

#if defined(__x86_64__) && defined(__linux__)
void switch_fiber(void** from, void* to) { ll_switch_fiber(from, to); }
#else
void switch_fiber(void**, void*) {}
#endif

}  // namespace ll::cuda
