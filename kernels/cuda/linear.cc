// The linear family: which kernel, which tile. Over q8a tokens GEMV (linear_gemv.cuh) for one token and int8 mma
// (linear_mma.cuh) for more; both give an output the same bits, so that the choice is about time alone. Over f32 tokens
// linear_float.cuh.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/activation.h"
#include "kernels/check.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/lower.h"
#include "kernels/cuda/prim/args.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/tile8.h"
#include "kernels/ref/linear.h"

namespace ll::cuda {
namespace {

constexpr int64_t kMaxKernelParts = 4, kStaticShared = 48 << 10;

// GemvActivations of linear_gemv.cuh.
enum Activations : int64_t { kQuantized, kPlain, kNormed };

// LinearKind of linear_parts.cuh.
enum Kind : int64_t { kKindLinear, kKindMerged, kKindGated, kKindAdd, kKindGate, kKindUp };

struct Weight {
  DType dtype;
  int64_t rows;
  bool operator==(const Weight&) const = default;
};

// What one kernel computes.
struct Problem {
  Kind kind = kKindLinear;
  std::vector<Weight> parts;  // of kKindGated the gate, whose likeness the up projection is
  int64_t first_weight = 1, first_column = 0, k = 0, tokens = 0;
  Activations activations = kQuantized;
  bool to_q8a = false;
  int64_t head_dim = 0;                                    // of kRope: row blocks divide heads; else 0
  Constants gemv_constants;                                // that linear_gemv.cuh asks for besides
  std::vector<std::pair<std::string, int64_t>> constants;  // that no tile changes

  int64_t pairs() const { return kind == kKindGated ? 2 : 1; }
  int64_t tiles() const { return (k + kTile8K - 1) / kTile8K; }
  bool halves() const {
    return std::any_of(parts.begin(), parts.end(), [](const Weight& w) { return tile8_parts(w.dtype).halves; });
  }
  bool mixed() const {
    return std::any_of(parts.begin(), parts.end(), [&](const Weight& w) { return w.dtype != parts[0].dtype; });
  }
  // Blocks along N of blocks that take `rows` output rows of one part.
  int64_t row_blocks(int64_t rows) const {
    int64_t blocks = 0;
    for (const Weight& w : parts) blocks += (w.rows + rows - 1) / rows;
    return blocks;
  }
  double weight_bytes() const {
    double bytes = 0;
    for (const Weight& w : parts) {
      bytes += static_cast<double>((w.rows + 7) / 8 * tiles() * tile8_bytes(w.dtype) * pairs());
    }
    return bytes;
  }
};

double issue_rate(const Target& target) {
  return target.instructions_per_second > 0 ? target.instructions_per_second : 128.0 * 1.59e9 * target.multiprocessors;
}

// Blocks of one kernel that a multiprocessor holds.
int64_t resident(const Target& target, int64_t threads, int64_t registers, int64_t shared) {
  return std::max<int64_t>(1, std::min({target.threads_per_sm / threads, int64_t{target.blocks_per_sm},
                                        target.registers_per_sm / (registers * threads),
                                        target.shared_per_sm / std::max<int64_t>(shared, 1)}));
}

// How much longer the fullest multiprocessor works than the average one. Blocks start as others end, so only the last
// wave's remainder counts.
double imbalance(const Target& target, int64_t blocks) {
  const double each = static_cast<double>(blocks) / target.multiprocessors;
  return std::ceil(each) / each;
}

// What the cost model says of a tile, in seconds: the largest of its terms, and what comes before and with every
// launch.
struct Estimate {
  double memory = 0;   // bytes at the rate that streaming reaches, or that the loads on their way allow
  double issue = 0;    // lane instructions at the rate of all multiprocessors
  double latency = 0;  // waits that nothing overlaps
  double launch = 0;
  double staging = 0;  // until a block has normed and quantized its token, while few weights are on their way

  double seconds() const { return std::max({memory, issue, latency}) + launch + staging; }
  std::string text() const {
    return fmt::format("{:.1f} us (memory {:.1f}, issue {:.1f}, latency {:.1f}, launch {:.1f}{})", 1e6 * seconds(),
                       1e6 * memory, 1e6 * issue, 1e6 * latency, 1e6 * launch,
                       staging > 0 ? fmt::format(", staging {:.1f}", 1e6 * staging) : "");
  }
};

constexpr double kLatency = 1e-6;  // seconds from asking DRAM under load to having
constexpr double kAsking = 0.7;    // part of its time that a warp of linear_mma has loads on their way

// ---- GEMV

struct GemvTile {
  int64_t warps;      // along K
  int64_t row_warps;  // among which a block's row tiles are divided
  int64_t row_tiles;  // of a block
  int64_t ahead;

  int64_t threads() const { return 32 * warps * row_warps; }
};

int64_t gemv_shared(const Problem& p, const GemvTile& tile) {
  return p.tiles() * (256 + (p.halves() ? 128 : 64) + tile.row_tiles * 32);
}

// The kernels keep to 64 registers as compute_75 code; newer assemblers, and two formats in one kernel, need a few
// more. A second unit on its way takes up to 32.
int64_t gemv_registers(const Problem& p, const Target& target, const GemvTile& tile) {
  return tile.ahead == 2 ? 104 : target.sm > 75 || p.mixed() ? 72 : 64;
}

// Lane instructions for 4 values of f32 activations that a block quantizes, and those that it norms as well.
constexpr double kQuantizeInstructions = 60, kNormInstructions = 90;
// Seconds that a round of a block's threads over such a row takes, each 4 values: measured on an H100, rows of 2048 and
// 4096, blocks of 64 to 256 threads.
constexpr double kQuantizeRound = 0.5e-6, kNormRound = 0.7e-6;

Estimate gemv_estimate(const Problem& p, const Target& target, const GemvTile& tile) {
  const int64_t threads = tile.threads(), blocks = p.row_blocks(8 * tile.row_tiles / p.pairs());
  const int64_t fit = resident(target, threads, gemv_registers(p, target, tile), gemv_shared(p, tile));
  const int64_t iterations = (p.tiles() + 4 * tile.warps - 1) / (4 * tile.warps);
  const double bytes = p.weight_bytes();
  // Activations come from L2, thrice as fast, once a block.
  const double x_bytes = p.activations == kQuantized ? 1.25 : p.activations == kPlain ? 4 : 8;
  const double moved = bytes + static_cast<double>(blocks) * x_bytes * static_cast<double>(p.k) / 3;
  const double lanes = static_cast<double>(iterations * 4 * tile.warps) / static_cast<double>(p.tiles());
  const double staging = p.activations == kQuantized ? 5
                         : p.activations == kPlain   ? kQuantizeInstructions
                                                     : kNormInstructions;
  const double issued = bytes * 2.2 * lanes + static_cast<double>(blocks * threads) * 200 +
                        static_cast<double>(blocks * p.tiles() * 64) * staging;
  // A lane waits for memory once for as many units as it has on their way.
  const double waits =
      static_cast<double>(2 * iterations * tile.row_tiles / tile.row_warps) / static_cast<double>(tile.ahead);
  const double waves = std::max(1.0, static_cast<double>(blocks) / static_cast<double>(fit * target.multiprocessors));
  const double waited = waits * waves * 1.5 * kLatency;
  const double rounds = std::ceil(static_cast<double>(p.k) / static_cast<double>(4 * threads));
  const double staged = p.activations == kQuantized
                            ? 0
                            : std::ceil(waves) * rounds * (p.activations == kPlain ? kQuantizeRound : kNormRound);
  return {moved / target.bytes_per_second * imbalance(target, blocks),
          issued / issue_rate(target) * imbalance(target, blocks), waited, 2 * kLatency, staged};
}

KernelLaunch gemv_launch(const Problem& p, const Target& target, const GemvTile& tile) {
  KernelLaunch launch;
  launch.instance = {"linear_gemv.cuh", "linear_gemv", p.constants, static_cast<int>(tile.threads()), 1};
  launch.instance.constants.insert(launch.instance.constants.end(), p.gemv_constants.begin(), p.gemv_constants.end());
  launch.instance.constants.insert(launch.instance.constants.end(), {{"kRowTiles", tile.row_tiles},
                                                                     {"kRowWarps", tile.row_warps},
                                                                     {"kAhead", tile.ahead},
                                                                     {"kGroupsToWord", p.halves() ? 1 : 2}});
  launch.instance.blocks_per_sm = static_cast<int>(
      resident(target, launch.instance.threads, gemv_registers(p, target, tile), gemv_shared(p, tile)));
  const int64_t blocks = p.row_blocks(8 * tile.row_tiles / p.pairs());
  launch.grid = {static_cast<uint32_t>(blocks), static_cast<uint32_t>(p.tokens), 1};
  launch.note = fmt::format("gemv: {} warps along k x {} along rows, {} row tiles, {} ahead, {} blocks: {}", tile.warps,
                            tile.row_warps, tile.row_tiles, tile.ahead, blocks, gemv_estimate(p, target, tile).text());
  return launch;
}

// Row tiles of a block come in multiples of this: a q8a block is 32 rows.
int64_t row_tile_step(const Problem& p) { return p.to_q8a ? 4 * p.pairs() : p.pairs(); }
bool row_tiles_fit(const Problem& p, int64_t row_tiles) {
  return row_tiles % row_tile_step(p) == 0 && (p.head_dim == 0 || p.head_dim % (8 * row_tiles) == 0);
}

GemvTile choose_gemv(const Problem& p, const Target& target) {
  GemvTile best{1, 1, row_tile_step(p), 1};
  double least = std::numeric_limits<double>::max();
  const int64_t most = std::min<int64_t>(16, (p.tiles() + 3) / 4);
  for (int64_t warps = most; warps >= 1; --warps) {
    for (int64_t row_tiles = row_tile_step(p); row_tiles <= 16 * p.pairs(); row_tiles *= 2) {
      for (int64_t row_warps = 1; row_warps * warps <= 16 && row_warps * p.pairs() <= row_tiles; row_warps *= 2) {
        for (const int64_t ahead : {1, 2}) {
          const GemvTile tile{warps, row_warps, row_tiles, ahead};
          if (gemv_shared(p, tile) > kStaticShared || !row_tiles_fit(p, row_tiles)) continue;
          const double seconds = gemv_estimate(p, target, tile).seconds();
          if (seconds < 0.99 * least) best = tile, least = seconds;
        }
      }
    }
  }
  return best;
}

// ---- mma

struct MmaTile {
  int64_t row_warps, token_warps, depth_warps, row_tiles, token_tiles;
  int64_t halves;     // of a tile, that a stage takes
  int64_t registers;  // that its code keeps to

  int64_t threads() const { return 32 * row_warps * token_warps * depth_warps; }
  int64_t rows() const { return 8 * row_warps * row_tiles; }
  int64_t tokens() const { return 8 * token_warps * token_tiles; }
};

// Part of the issue rate that these kernels reach: measured on an H100 as sm_75 code, products of 8 to 512 tokens.
constexpr double kMmaIssue = 0.55;

// What is compiled for; an even number of row tiles everywhere, so that gate and up share a warp.
constexpr MmaTile kMmaTiles[] = {
    {2, 1, 4, 2, 1, 2, 128}, {4, 1, 2, 2, 1, 2, 128}, {1, 1, 4, 2, 1, 2, 168},
    {2, 1, 4, 2, 2, 1, 128}, {4, 1, 2, 2, 2, 1, 128}, {2, 1, 2, 2, 4, 1, 224},
    {4, 1, 1, 2, 4, 1, 168}, {2, 2, 1, 2, 4, 1, 168}, {4, 1, 1, 4, 4, 1, 255},
};

int64_t mma_shared(const Problem& p, const MmaTile& t) {
  const int64_t sums = t.row_tiles * 2 * t.token_tiles;
  const int64_t exchange = t.depth_warps > 1 || sums > 16 ? t.threads() * sums * 4 : 0;
  return 2 * t.depth_warps * t.tokens() * t.halves * (128 + (p.halves() ? 64 : 32)) + exchange;
}

// Weights at addresses that a block finds out take a few more.
int64_t mma_registers(const Problem& p, const MmaTile& t) {
  return p.parts.size() > 1 && t.registers == 168 ? 224 : t.registers;
}

Estimate mma_estimate(const Problem& p, const Target& target, const MmaTile& t) {
  const int64_t token_blocks = (p.tokens + t.tokens() - 1) / t.tokens();
  const int64_t row_blocks = p.row_blocks(t.rows() / p.pairs()), blocks = row_blocks * token_blocks;
  const int64_t fit = resident(target, t.threads(), mma_registers(p, t), mma_shared(p, t));
  const int64_t rounds = (p.tiles() + t.depth_warps - 1) / t.depth_warps;
  // A warp's instructions for half a tile: 4 groups of 2 mma and 8 float operations a tile of 8 x 8, and unpacking.
  const double instructions =
      static_cast<double>(4 * 10 * t.row_tiles * t.token_tiles + 40 * t.row_tiles + 12 * t.token_tiles + 60);
  const double warps = static_cast<double>(blocks * t.threads() / 32);
  const double issue = instructions * 32 * 2 * static_cast<double>(rounds) * warps / (kMmaIssue * issue_rate(target));
  const double x_bytes = 1.25 * static_cast<double>(p.k * std::min(p.tokens, token_blocks * t.tokens()));
  // Weights from DRAM once, from L2 (thrice as fast) for every token block; activations for every row block.
  const double bytes = p.weight_bytes() * (1 + static_cast<double>(token_blocks - 1) / 3) +
                       x_bytes * static_cast<double>(row_blocks) / 3;
  const double in_flight = std::min(static_cast<double>(blocks), static_cast<double>(fit * target.multiprocessors)) *
                           static_cast<double>(t.threads() * t.row_tiles * t.halves) * 18;
  const double memory = bytes / std::min(target.bytes_per_second, kAsking * in_flight / kLatency);
  const double waves = std::ceil(static_cast<double>(blocks) / static_cast<double>(fit * target.multiprocessors));
  const double latency = static_cast<double>(2 / t.halves * rounds) * kLatency * waves;
  return {memory * imbalance(target, blocks), issue * imbalance(target, blocks), latency, 2 * kLatency};
}

KernelLaunch mma_launch(const Problem& p, const Target& target, const MmaTile& t) {
  const int64_t token_blocks = std::max<int64_t>(1, (p.tokens + t.tokens() - 1) / t.tokens());
  const int64_t row_blocks = p.row_blocks(t.rows() / p.pairs());
  KernelLaunch launch;
  launch.instance = {"linear_mma.cuh", "linear_mma", p.constants, static_cast<int>(t.threads()), 1};
  launch.instance.constants.insert(launch.instance.constants.end(), {{"kRowWarps", t.row_warps},
                                                                     {"kTokenWarps", t.token_warps},
                                                                     {"kDepthWarps", t.depth_warps},
                                                                     {"kRowTiles", t.row_tiles},
                                                                     {"kTokenTiles", t.token_tiles},
                                                                     {"kHalves", t.halves},
                                                                     {"kTokenBlocks", token_blocks},
                                                                     {"kSwizzle", std::min<int64_t>(8, token_blocks)},
                                                                     {"kGroupsToWord", p.halves() ? 1 : 2}});
  launch.instance.blocks_per_sm = static_cast<int>(
      std::min<int64_t>(target.blocks_per_sm, target.registers_per_sm / mma_registers(p, t) / t.threads()));
  launch.grid = {static_cast<uint32_t>(row_blocks * token_blocks), 1, 1};
  launch.note = fmt::format("mma: {} rows x {} tokens a block of {} x {} x {} warps, {} blocks: {}", t.rows(),
                            t.tokens(), t.row_warps, t.token_warps, t.depth_warps, row_blocks * token_blocks,
                            mma_estimate(p, target, t).text());
  return launch;
}

MmaTile choose_mma(const Problem& p, const Target& target) {
  const MmaTile* best = &kMmaTiles[0];
  double least = std::numeric_limits<double>::max();
  for (const MmaTile& t : kMmaTiles) {
    if (mma_shared(p, t) > kStaticShared) continue;
    const double seconds = mma_estimate(p, target, t).seconds();
    if (seconds < least) best = &t, least = seconds;
  }
  return *best;
}

bool uses_mma(const Problem& p, const Tuning& tuning) {
  const int64_t kernel = tuned(tuning, "linear.kernel", 0);
  if (p.activations != kQuantized) return false;
  return kernel == 2 || (kernel == 0 && (p.tokens > 1 || gemv_shared(p, {1, 1, p.pairs(), 1}) > kStaticShared));
}

// Tuning: linear.kernel 1 gemv, 2 mma; linear.warps, linear.row_warps, linear.row_tiles and linear.ahead of gemv;
// linear.tile, the number of a row of kMmaTiles.
Result<KernelLaunch> launch_of(const Problem& p, const Target& target, const Tuning& tuning) {
  const int64_t kernel = tuned(tuning, "linear.kernel", 0);
  if (kernel < 0 || kernel > 2) return bad_data("linear.kernel is {}, expected 0 to 2", kernel);
  GemvTile gemv = choose_gemv(p, target);
  gemv.warps = tuned(tuning, "linear.warps", gemv.warps);
  gemv.row_warps = tuned(tuning, "linear.row_warps", gemv.row_warps);
  gemv.row_tiles = tuned(tuning, "linear.row_tiles", gemv.row_tiles);
  gemv.ahead = tuned(tuning, "linear.ahead", gemv.ahead);
  if (gemv.ahead < 1 || gemv.ahead > 2) return bad_data("linear.ahead is {}, expected 1 or 2", gemv.ahead);
  if (gemv.warps < 1 || gemv.row_warps < 1 || gemv.warps > 32 || gemv.row_warps > 32 ||
      gemv.warps * gemv.row_warps > 32) {
    return bad_data("linear.warps and linear.row_warps are {} and {}, expected a product of 1 to 32", gemv.warps,
                    gemv.row_warps);
  }
  if (gemv.row_tiles < 1 || gemv.row_tiles > 64 || !row_tiles_fit(p, gemv.row_tiles) ||
      gemv.row_tiles % (gemv.row_warps * p.pairs()) != 0) {
    return bad_data("linear.row_tiles is {}, expected 1 to 64, a multiple of {} and of {}{}", gemv.row_tiles,
                    row_tile_step(p), gemv.row_warps * p.pairs(),
                    p.head_dim == 0 ? "" : fmt::format(", 8 times it a divisor of {}", p.head_dim));
  }
  if (!uses_mma(p, tuning)) {
    if (gemv_shared(p, gemv) > kStaticShared) {
      return bad_data("linear.row_tiles is {}, expected what {} bytes of shared memory hold", gemv.row_tiles,
                      kStaticShared);
    }
    return gemv_launch(p, target, gemv);
  }
  const int64_t tile = tuned(tuning, "linear.tile", -1);
  if (tile < -1 || tile >= std::ssize(kMmaTiles)) {
    return bad_data("linear.tile is {}, expected 0 to {}", tile, std::ssize(kMmaTiles) - 1);
  }
  return mma_launch(p, target, tile < 0 ? choose_mma(p, target) : kMmaTiles[tile]);
}

// Constants that linear_parts.cuh asks for. `roles` are those of the launch's own inputs.
Status add_constants(Problem& p, const PlacedLaunch& spec, const LinearRoles& roles, int64_t act) {
  TRY_ASSIGN(const int64_t rows_are_tokens_, rows_are_tokens(spec.out[0]));
  const auto at = static_cast<int64_t>(roles.bias);
  const int64_t before = p.activations == kNormed ? 1 : 0;  // inputs between x and the weights
  p.constants = {{"kForm", p.kind},
                 {"kParts", std::ssize(p.parts)},
                 {"kFirstWeight", p.first_weight},
                 {"kFirstColumn", p.first_column},
                 {"kColumns", p.k},
                 {"kAct", act},
                 {"kBias", at > 0 ? at + p.first_weight - 1 - before : 0},
                 {"kResidual", static_cast<int64_t>(roles.residual)},
                 {"kRowsAreTokens", rows_are_tokens_},
                 {"kXBytes", in_row_bytes(spec, 0)},
                 {"kYStride", out_row_bytes(spec, 0) / 4},
                 {"kResidualStride", roles.residual > 0 ? in_row_bytes(spec, roles.residual) / 4 : 0}};
  for (size_t i = 0; i < p.parts.size(); ++i) {
    p.constants.push_back({fmt::format("kType{}", i), static_cast<int64_t>(p.parts[i].dtype)});
    p.constants.push_back({fmt::format("kRows{}", i), p.parts[i].rows});
  }
  return {};
}

// The kernels of one launch: append(kind, parts, first weight, bytes of workspace).
template <class Append>
Status append_form(LinearForm form, const std::vector<Weight>& weights, int64_t tokens, const Append& append) {
  switch (form) {
    case LinearForm::kLinear:
      return append(kKindLinear, weights, 1, 0);
    case LinearForm::kMerged:
      return append(kKindMerged, weights, 1, 0);
    case LinearForm::kAdd:
      return append(kKindAdd, weights, 1, 0);
    case LinearForm::kGated:
      break;
  }
  if (weights[0] == weights[1]) return append(kKindGated, {weights[0]}, 1, 0);
  // Of two types: the gate's sums wait in the workspace.
  const auto bytes = static_cast<uint64_t>(4 * tokens * weights[0].rows);
  TRY(append(kKindGate, {weights[0]}, 1, bytes));
  return append(kKindUp, {weights[1]}, 2, bytes);
}

Status check_limits(const PlacedLaunch& spec, const LinearRoles& roles) {
  if (spec.in.size() > kMaxInputs) return unsupported("{} inputs, expected at most {}", spec.in.size(), kMaxInputs);
  if (static_cast<int64_t>(roles.weights) > kMaxKernelParts) {
    return unsupported("{} weights, expected at most {}", roles.weights, kMaxKernelParts);
  }
  return {};
}

Status check_weight(const TensorType& w) {
  if (w.layout != Layout::kTile8) return unsupported("a weight is {}, expected layout tile8", check::describe(w));
  if ((w.dim(0).value + 7) / 8 * tile8_row_tile_bytes(w.dtype, w.last().value) >= int64_t{1} << 32) {
    return unsupported("a weight is {}, expected less than 4 GiB", check::describe(w));
  }
  return {};
}

// Kernels that quantize x keep it in shared memory.
Status check_shared(const Problem& p, const PlacedLaunch& spec) {
  if (p.activations == kQuantized || gemv_shared(p, {1, 1, row_tile_step(p), 1}) <= kStaticShared) return {};
  return unsupported("x is {}, expected what {} bytes of shared memory hold", check::describe(spec.in[0]),
                     kStaticShared);
}

Constants gemv_constants(const Problem& p, const PlacedLaunch& spec) {
  return {{"kActivations", p.activations},
          {"kEps", p.activations == kNormed ? float_bits(spec.attrs.f64("eps")) : 0},
          {"kNormThreads", norm_threads(p.k, 4)},
          {"kXAligned", in_is_aligned(spec, 0)},
          {"kToQ8A", p.to_q8a}};
}

// What else a kernel does beside its product.
struct Extras {
  Activations activations = kQuantized;
  bool to_q8a = false;
};

Status lower_q8(LinearForm form, const PlacedLaunch& spec, const Target& target, const Tuning& tuning,
                std::vector<KernelLaunch>& out, const Extras& extras = {}) {
  const size_t before = extras.activations == kNormed ? 1 : 0;  // inputs between x and the weights
  LinearRoles roles = linear_roles(form, spec.in.size() - before, spec.attrs);
  roles.bias += roles.bias > 0 ? before : 0;
  roles.residual += roles.residual > 0 ? before : 0;
  TRY(check_limits(spec, roles));
  std::vector<Weight> weights;
  for (size_t i = 1 + before; i <= roles.weights + before; ++i) {
    const TensorType& w = spec.in[i];
    TRY(check_weight(w));
    weights.push_back({w.dtype, w.dim(0).value});
  }
  Problem p;
  p.k = spec.in[0].last().value;
  p.tokens = spec.in[0].dim(0).value;
  p.activations = extras.activations;
  p.to_q8a = extras.to_q8a;
  p.gemv_constants = gemv_constants(p, spec);
  p.gemv_constants.push_back({"kRope", 0});
  TRY(check_shared(p, spec));
  const int64_t act = form == LinearForm::kGated ? static_cast<int64_t>(*find_activation(spec.attrs.text("act"))) : 0;
  const auto append = [&](Kind kind, const std::vector<Weight>& parts, int64_t first_weight,
                          uint64_t workspace) -> Status {
    p.kind = kind;
    first_weight += static_cast<int64_t>(before);
    p.first_column = 0;
    for (size_t i = 0; i < parts.size();) {
      // Only GEMV, which is a few microseconds, is worth one kernel for several types; and with many tokens one kernel
      // for each part is faster: the weights' address is a constant.
      size_t end = parts.size();
      if (uses_mma(p, tuning)) {
        end = i + 1;
        while (p.tokens <= 64 && end < parts.size() && parts[end].dtype == parts[i].dtype) ++end;
      }
      p.parts.assign(parts.begin() + static_cast<std::ptrdiff_t>(i), parts.begin() + static_cast<std::ptrdiff_t>(end));
      p.first_weight = first_weight + static_cast<int64_t>(i);
      TRY(add_constants(p, spec, roles, act));
      TRY_ASSIGN(KernelLaunch launch, launch_of(p, target, tuning));
      launch.workspace = workspace;
      out.push_back(std::move(launch));
      for (; i < end; ++i) p.first_column += parts[i].rows;
    }
    return {};
  };
  return append_form(form, weights, p.tokens, append);
}

// ---- f32 tokens

int64_t float_shared(const Problem& p, int64_t warps, int64_t tokens) {
  return 32 * warps * 4 * (36 + 2 * p.pairs() * tokens);
}

Status lower_f32(LinearForm form, const PlacedLaunch& spec, const Target& target, const Tuning& tuning,
                 std::vector<KernelLaunch>& out) {
  const LinearRoles roles = linear_roles(form, spec.in.size(), spec.attrs);
  TRY(check_limits(spec, roles));
  Problem p;
  p.k = spec.in[0].last().value;
  p.tokens = spec.in[0].dim(0).value;
  bool aligned = true;
  std::vector<Weight> weights;
  for (size_t i = 1; i <= roles.weights; ++i) {
    const TensorType& w = spec.in[i];
    if (w.layout != Layout::kRows || is_quantized_dtype(w.dtype)) {
      return unsupported("a weight is {} and x f32, expected f32, f16 or bf16 rows", check::describe(w));
    }
    aligned = aligned && row_bytes(w.dtype, p.k) % 16 == 0;
    weights.push_back({w.dtype, w.dim(0).value});
  }
  const int64_t act = form == LinearForm::kGated ? static_cast<int64_t>(*find_activation(spec.attrs.text("act"))) : 0;
  const auto append = [&](Kind kind, std::vector<Weight> parts, int64_t first_weight, uint64_t workspace) -> Status {
    p.kind = kind;
    p.parts = std::move(parts);
    p.first_weight = first_weight;
    TRY(add_constants(p, spec, roles, act));
    const int64_t tokens = tuned(tuning, "linear_float.tokens", p.tokens <= 1 ? 1 : p.tokens <= 4 ? 4 : 16);
    if (tokens < 1 || tokens > 16) return bad_data("linear_float.tokens is {}, expected 1 to 16", tokens);
    int64_t warps = std::min<int64_t>(8, p.tiles());
    while (float_shared(p, warps, tokens) > kStaticShared) --warps;
    warps = tuned(tuning, "linear_float.warps", warps);
    if (warps < 1 || warps > 32 || float_shared(p, warps, tokens) > kStaticShared) {
      return bad_data("linear_float.warps is {}, expected what {} bytes of shared memory hold", warps, kStaticShared);
    }
    KernelLaunch launch;
    launch.instance = {"linear_float.cuh", "linear_float", p.constants, static_cast<int>(32 * warps), 1};
    launch.instance.constants.insert(
        launch.instance.constants.end(),
        {{"kTokens", tokens}, {"kAligned", aligned}, {"kXAligned", in_is_aligned(spec, 0) && p.k % 4 == 0}});
    launch.grid = {static_cast<uint32_t>(p.row_blocks(32)), blocks_for(p.tokens, tokens), 1};
    double bytes = 0;
    for (const Weight& w : p.parts) bytes += static_cast<double>(w.rows * p.pairs() * row_bytes(w.dtype, p.k));
    launch.note = fmt::format("f32: 32 rows x {} tokens a block, {} warps along k, {} blocks, {:.1f} us", tokens, warps,
                              launch.grid[0] * launch.grid[1], 1e6 * bytes / target.bytes_per_second);
    launch.workspace = workspace;
    out.push_back(std::move(launch));
    return {};
  };
  return append_form(form, weights, p.tokens, append);
}

}  // namespace

Status lower_linear(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_f32(LinearForm::kLinear, s, g, t, out);
}
Status lower_merged_linear(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_f32(LinearForm::kMerged, s, g, t, out);
}
Status lower_gated_linear(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_f32(LinearForm::kGated, s, g, t, out);
}
Status lower_linear_add(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_f32(LinearForm::kAdd, s, g, t, out);
}
Status lower_linear_q8(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kLinear, s, g, t, out);
}
Status lower_merged_linear_q8(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kMerged, s, g, t, out);
}
Status lower_gated_linear_q8(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kGated, s, g, t, out);
}
Status lower_linear_add_q8(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kAdd, s, g, t, out);
}
Status lower_norm_linear(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kLinear, s, g, t, out, {kNormed, false});
}
Status lower_norm_merged_linear(const PlacedLaunch& s, const Target& g, const Tuning& t,
                                std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kMerged, s, g, t, out, {kNormed, false});
}
Status lower_norm_qkv_rope_kv_write(const PlacedLaunch& spec, const Target& target, const Tuning& tuning,
                                    std::vector<KernelLaunch>& out) {
  constexpr size_t kFirst = 2, kCache = 5, kFrequencies = 8, kBiases = 9;
  const int64_t head_dim = spec.attrs.i64("head_dim"), heads = spec.attrs.i64("heads"),
                all = heads + 2 * spec.attrs.i64("kv_heads");
  if (head_dim % 8 != 0) return unsupported("heads of {} values, expected a multiple of 8", head_dim);
  Problem p;
  p.kind = kKindMerged;
  p.k = spec.in[0].last().value;
  p.tokens = spec.in[0].dim(0).value;
  p.first_weight = kFirst;
  p.activations = kNormed;
  p.head_dim = head_dim;
  for (size_t i = kFirst; i < kCache; ++i) {
    TRY(check_weight(spec.in[i]));
    p.parts.push_back({spec.in[i].dtype, spec.in[i].dim(0).value});
  }
  TRY(check_shared(p, spec));
  TRY(add_constants(p, spec, {3, spec.in.size() > kBiases ? kBiases : 0, 0}, 0));
  const auto counters = static_cast<uint64_t>(round_up(p.tokens * all * 4, 256));
  p.gemv_constants = gemv_constants(p, spec);
  p.gemv_constants.insert(
      p.gemv_constants.end(),
      {{"kRope", 1}, {"kQueryHeads", heads}, {"kHeadsOut", all}, {"kCounterBytes", static_cast<int64_t>(counters)}});
  add_rotation(spec, spec.in[kFrequencies], head_dim, p.gemv_constants);
  add_cache(spec.in[kCache], p.gemv_constants);
  TRY_ASSIGN(KernelLaunch launch, launch_of(p, target, tuning));
  launch.workspace_zeroed = counters;
  launch.workspace = counters + static_cast<uint64_t>(p.tokens * all * head_dim * 4);
  out.push_back(std::move(launch));
  return {};
}
Status lower_norm_gated_linear(const PlacedLaunch& s, const Target& g, const Tuning& t,
                               std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kGated, s, g, t, out, {kNormed, false});
}
Status lower_norm_gated_linear_quantize(const PlacedLaunch& s, const Target& g, const Tuning& t,
                                        std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kGated, s, g, t, out, {kNormed, true});
}
Status lower_quantize_linear(const PlacedLaunch& s, const Target& g, const Tuning& t, std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kLinear, s, g, t, out, {kPlain, false});
}
Status lower_quantize_linear_add(const PlacedLaunch& s, const Target& g, const Tuning& t,
                                 std::vector<KernelLaunch>& out) {
  return lower_q8(LinearForm::kAdd, s, g, t, out, {kPlain, false});
}

}  // namespace ll::cuda
