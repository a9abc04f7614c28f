// The passes, one file each. Their order and the reasons for it: pipeline.cc.
#pragma once

#include "compiler/passes/pipeline.h"

namespace ll {

Status infer_types(ir::Graph&, PassContext&);
Status fold(ir::Graph&, PassContext&);
Status merge_qkv(ir::Graph&, PassContext&);
Status fuse_gate_up(ir::Graph&, PassContext&);
Status fuse_residual(ir::Graph&, PassContext&);
Status fuse_rope_kv(ir::Graph&, PassContext&);
Status quantize_activations(ir::Graph&, PassContext&);
Status fuse_norm_quantize(ir::Graph&, PassContext&);
Status choose_layouts(ir::Graph&, PassContext&);
Status bind_sizes(ir::Graph&, PassContext&);
Status fuse_activations(ir::Graph&, PassContext&);
Status select_kernels(ir::Graph&, PassContext&);
Status schedule(ir::Graph&, PassContext&);
Status plan_memory(ir::Graph&, PassContext&);

// ---- Words that several passes use.

// Infers every type again in list order and stores it.
Status infer_all_types(ir::Graph& graph);
// True when the value has exactly one reader and is not returned.
bool used_once(const ir::Graph& graph, ir::Value v);
// True when `a` and `b` are weights that one kernel can take together: all quantized or none.
bool same_weight_kind(const ir::Graph& graph, ir::Value a, ir::Value b);
// True for results that live in the arena: activations. KV caches, inputs, weights and constants have places of their
// own.
bool in_arena(const ir::Graph& graph, ir::Value v);
// True for ops that a kernel computes: neither a source nor a view.
bool is_computed(const ir::Op& op);
// Bytes of an arena value at its bound (of one row while the bound is not known), rows dense.
int64_t arena_bytes(const TensorType& type);

}  // namespace ll
