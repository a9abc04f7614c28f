// What a kernel source needs of the CPU emulator (kernels/cuda/emulator/): read by the emulator and by the words of
// prim/ when a host compiler reads them. Plain C++ without includes, so that an instance compiles in a fraction of a
// second.
#pragma once

namespace ll::cuda::emulated {

struct Index {
  unsigned x, y, z;
};

// Threads of a block run as fibers of one host thread: one runs until it must wait for others.
struct Runtime {
  Index thread, block;  // of the running fiber
  Index block_dim, grid_dim;
  // The 32 lanes of a warp meet. Lane i's `in_bytes` lie at inputs + i * in_bytes when `all` computes the outputs of
  // every lane, once. All lanes must come with the same `all`; `name` is for messages.
  void (*warp)(const char* name, const void* in, unsigned in_bytes, void* out, unsigned out_bytes,
               void (*all)(const void* inputs, void* outputs));
  // All threads of a block meet. Returns how many came with a true `vote`.
  unsigned (*block_barrier)(const char* name, bool vote);
  // Shared memory of the running block for the declaration that `site` is the address of, null for the dynamic one;
  // 0xff in every byte when the block begins, followed by memory that may not be touched.
  void* (*shared)(const void* site, unsigned long bytes);
  // Lets others run: in every word that may wait for another block.
  void (*pause)();
  // Ends the launch with this message.
  void (*fail)(const char* message);
};

}  // namespace ll::cuda::emulated
