/* libllrt: runs compiled language models (.llcp plans).
 *
 *   llrt_model* model;
 *   llrt_session* session;
 *   if (llrt_model_open("plan.llcp", NULL, &model) != LLRT_OK) return fail(llrt_last_error());
 *   llrt_session_create(model, &session);
 *   llrt_session_prefill(session, ids, count);
 *   llrt_session_sample(session, NULL, &token);
 *   llrt_session_decode(&session, &token, 1);
 *
 * Errors. Every function that can fail returns a status; anything but LLRT_OK leaves a message for llrt_last_error().
 * No function throws, aborts or exits because of its arguments or of a file's contents. A null handle, a null pointer
 * where a value is needed, or a number out of range is LLRT_USAGE. On failure outputs are left as they were, handles
 * are set to null, and sessions hold what they held before the call.
 *
 * Threads. Every function may be called from any thread. Calls on one model and its sessions run one after another; a
 * pointer that such a call returns is valid as long as its documentation says. Two models are independent.
 *
 * Results. Logits do not depend on the number of threads, nor, with llrt_open_params.deterministic, on how a text is
 * cut into calls and on which sessions share a step. Without it that holds too but for level amx, where steps of 64
 * tokens and more round quantized weights anew, and attention's operands to bf16, and attention of few tokens takes
 * floats instead of tiles.
 *
 * Versions. Parameter structs begin with their size as the caller was compiled; an older caller gets defaults for
 * members it does not know, a newer caller gets LLRT_UNSUPPORTED if a member that this library does not know is not
 * zero. */
#ifndef LLRT_H_
#define LLRT_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LLRT_API __attribute__((visibility("default")))
#else
#define LLRT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Versions ---- */

/* Version of this header. Raised when something is added; removals change the library's soname. */
#define LLRT_API_VERSION 2

/* LLRT_API_VERSION of the library that is loaded. */
LLRT_API uint32_t llrt_api_version(void);
/* "0.1.0". Static. */
LLRT_API const char* llrt_version(void);

/* ---- Errors ---- */

/* Status codes after sysexits(3); the programs end with the same numbers. */
typedef int32_t llrt_status;
enum {
  LLRT_OK = 0,
  LLRT_USAGE = 64,         /* a wrong argument */
  LLRT_BAD_DATA = 65,      /* a plan or its weights are malformed, or give numbers that are not finite */
  LLRT_NO_INPUT = 66,      /* a file does not exist or cannot be opened */
  LLRT_UNSUPPORTED = 69,   /* well formed, but not something this build or machine can do */
  LLRT_INTERNAL = 70,      /* a bug of the library's */
  LLRT_OUT_OF_MEMORY = 71, /* memory, KV pages, or the context length */
  LLRT_CANNOT_CREATE = 73,
  LLRT_IO = 74,
  LLRT_RETRY = 75 /* a device failed: restart the process */
};

/* Message of the last call on this thread that failed: one lower-case line, what was found and what was expected. ""
 * before the first. Valid until the next failure on this thread. Never null. */
LLRT_API const char* llrt_last_error(void);
/* "ok", "usage", "bad data", ... Static, never null. */
LLRT_API const char* llrt_status_name(llrt_status status);

/* ---- Models ---- */

typedef struct llrt_model llrt_model;

typedef struct llrt_open_params {
  size_t struct_size;
  int32_t threads;        /* 0: one per physical core that affinity and cgroup quota allow */
  int32_t verify_weights; /* 1: read all weights and compare their checksums */
  const char* isa; /* "scalar", "avx2", "avx-vnni", "avx512-vnni" or "amx"; null: the best this machine has. Plans of
                      reference kernels run scalar always */
  const char* model_dir;   /* where files that the plan names lie (--weights reference); null: beside the plan */
  const char* device;      /* "cpu", "cuda", "cuda:1"; null: a GPU that the plan has code for, else the CPU */
  int32_t launch_mode;     /* GPUs: 0 one graph a step, 1 kernel after kernel, 2 waiting for each: an error names it,
                               3 one graph that is timed: what each kernel took is printed to stderr at the end. The
                               CPU knows 3 only, other values change nothing there */
  int32_t deterministic;   /* 1: no row's logits depend on what else is in its step. 0 lets level avx512-vnni choose
                              faster arithmetic for prompts, level amx for single tokens too; elsewhere it changes
                              nothing */
  const char* dump_folder; /* GPUs: what each launch of a step wrote goes there as safetensors, a file a step; slow.
                              Null: nowhere */
  const char* numa;        /* CPUs of several NUMA nodes: "auto", "off": threads and memory as the system likes, "1": on
                              that node; null: auto. Where there is one node it changes nothing */
} llrt_open_params;

/* Fills in defaults. Call as llrt_open_params_init(&params, sizeof params). */
LLRT_API llrt_status llrt_open_params_init(llrt_open_params* params, size_t struct_size);

/* Opens and validates a plan, places its weights and starts the threads. `params` may be null (defaults). */
LLRT_API llrt_status llrt_model_open(const char* path, const llrt_open_params* params, llrt_model** model);
/* Sessions and detokenizers of the model stay valid: the model goes when the last of them does. Null is ignored. */
LLRT_API void llrt_model_close(llrt_model* model);

typedef struct llrt_model_info {
  size_t struct_size;
  const char* architecture;  /* "llama"; strings and arrays live as long as the model */
  const char* name;          /* "" when unknown */
  uint32_t vocab_size;       /* logits of a token */
  uint32_t context_length;   /* tokens a session can hold (--ctx-size) */
  uint32_t max_batch;        /* sessions that share one step (--max-batch); larger calls take several steps */
  uint32_t max_step_tokens;  /* tokens one step can hold; longer prompts take several steps */
  int32_t bos_token;         /* -1: none */
  int32_t add_bos;           /* 1: prompts begin with bos_token */
  const int32_t* eos_tokens; /* any of these ends an answer */
  size_t eos_token_count;
  int32_t has_tokenizer;
  int32_t threads;         /* in use */
  const char* isa;         /* in use */
  uint64_t weight_bytes;   /* of all tensors as kernels read them */
  uint64_t kv_pool_bytes;  /* address space of the KV cache; memory is taken as pages are first used */
  uint64_t kv_token_bytes; /* KV cache of one token */
  uint64_t working_bytes;  /* arena, scratch, inputs and logits */
} llrt_model_info;

/* Fills *info; set info->struct_size to sizeof *info first. */
LLRT_API llrt_status llrt_model_get_info(const llrt_model* model, llrt_model_info* info);
/* The same and more as JSON text; lives as long as the model. Null when `model` is. */
LLRT_API const char* llrt_model_json(const llrt_model* model);
/* Bytes that a step of `tokens` tokens in `sessions` sessions reads and writes at least, each session holding `depth`
 * tokens before it: weights once, activations, keys and values. For comparing a speed with the memory's. 0 when no step
 * is so large. */
LLRT_API uint64_t llrt_model_step_bytes(const llrt_model* model, uint32_t tokens, uint32_t sessions, uint32_t depth);
/* 1 when `token` ends an answer. */
LLRT_API int32_t llrt_model_is_eos(const llrt_model* model, int32_t token);

/* ---- Sessions: one text each ---- */

typedef struct llrt_session llrt_session;

LLRT_API llrt_status llrt_session_create(llrt_model* model, llrt_session** session);
LLRT_API void llrt_session_free(llrt_session* session);

/* Tokens held. 0 for null. */
LLRT_API size_t llrt_session_length(const llrt_session* session);
/* Keeps the first `length` tokens, gives the memory of the others back and forgets the logits. */
LLRT_API llrt_status llrt_session_truncate(llrt_session* session, size_t length);
/* Truncates to nothing. */
LLRT_API llrt_status llrt_session_reset(llrt_session* session);

/* Appends `count` >= 1 tokens and computes the logits that follow the last. May be called again and again; one call of
 * many tokens and many calls of few give the same bits (see Results). A full context or KV pool is
 * LLRT_OUT_OF_MEMORY. */
LLRT_API llrt_status llrt_session_prefill(llrt_session* session, const int32_t* tokens, size_t count);
/* The same, writing the logits that follow each of the tokens: f32 [count, vocab_size]. `capacity`: floats at `logits`.
 */
LLRT_API llrt_status llrt_session_prefill_logits(llrt_session* session, const int32_t* tokens, size_t count,
                                                 float* logits, size_t capacity);
/* Appends tokens[i] to sessions[i] for each of `count` different sessions of one model, in as few steps as the plan
 * allows. */
LLRT_API llrt_status llrt_session_decode(llrt_session* const* sessions, const int32_t* tokens, size_t count);

/* Logits that follow the session's last token: f32 [vocab_size], valid until the session changes. LLRT_USAGE before the
 * first prefill. */
LLRT_API llrt_status llrt_session_logits(const llrt_session* session, const float** logits, size_t* count);

/* ---- Sampling ----
 * In this order, each a no-op at its default unless said otherwise:
 *   1. penalties over the last `penalty_window` tokens of the session: a logit l of a token seen c > 0 times becomes
 *      l > 0 ? l / repetition_penalty : l * repetition_penalty, then l - presence_penalty - c * frequency_penalty
 *   2. temperature 0: the largest logit, the lower id of equals; nothing below applies. Else logits are divided by it
 *   3. top_k: the k most likely tokens (of equals, lower ids first)
 *   4. softmax over those; top_p: the fewest of the most likely tokens whose probabilities reach top_p
 *   5. min_p: those at least min_p times as likely as the most likely
 *   6. a draw, by Philox4x32-10 with `seed` as the key and the session's length as the counter
 * So a token is a function of logits, parameters and the session's tokens alone; drawing again without decoding draws
 * the same. */
typedef struct llrt_sample_params {
  size_t struct_size;
  float temperature;        /* 0 .. 100; default 0 */
  int32_t top_k;            /* 0: all; default 40 */
  float top_p;              /* 0 .. 1, 1: all; default 0.95 */
  float min_p;              /* 0 .. 1, 0: all; default 0.05 */
  float repetition_penalty; /* > 0; default 1 */
  float presence_penalty;   /* default 0 */
  float frequency_penalty;  /* default 0 */
  int32_t penalty_window;   /* tokens, -1: all of the session; default 64 */
  uint64_t seed;            /* default 0 */
} llrt_sample_params;

LLRT_API llrt_status llrt_sample_params_init(llrt_sample_params* params, size_t struct_size);

/* Chooses the token that follows; does not append it. `params` may be null (defaults: the most likely token).
 * Logits that are not numbers are LLRT_BAD_DATA. */
LLRT_API llrt_status llrt_session_sample(const llrt_session* session, const llrt_sample_params* params, int32_t* token);

/* ---- Text. LLRT_UNSUPPORTED for plans without a tokenizer ---- */

enum {
  LLRT_ADD_SPECIAL = 1,  /* begin (and end) with the tokens the model wants there, such as BOS */
  LLRT_PARSE_SPECIAL = 2 /* text that spells a special token, such as <|im_end|>, becomes it */
};

/* *count receives the number of ids. With ids == null nothing else happens; else they are written to ids [capacity],
 * and too small a capacity is LLRT_USAGE (with *count set). `text` need not end in a zero byte. */
LLRT_API llrt_status llrt_tokenize(const llrt_model* model, const char* text, size_t text_size, uint32_t flags,
                                   int32_t* ids, size_t capacity, size_t* count);

/* Token ids of a conversation as the model's chat template prints it, up to where the answer begins. `messages`: JSON
 * text, a list of objects with "role" ("system", "user", "assistant", ...) and "content", a string; templates may look
 * at further members. What spells a special token in a content stays text. ids, capacity and count as in llrt_tokenize.
 * LLRT_UNSUPPORTED: the plan has no chat template; LLRT_USAGE: `messages` is something else, or the template refuses
 * it. */
LLRT_API llrt_status llrt_chat_tokenize(const llrt_model* model, const char* messages, size_t messages_size,
                                        int32_t* ids, size_t capacity, size_t* count);

/* Turns tokens into text one at a time and never splits a code point: bytes wait until they are whole. */
typedef struct llrt_detokenizer llrt_detokenizer;

enum {
  LLRT_SHOW_SPECIAL = 1, /* spell special tokens out; else they leave no text */
  LLRT_CONTINUES = 2     /* the tokens go on after others: a leading space that the tokenizer adds to texts is kept */
};

/* `flags`: LLRT_SHOW_SPECIAL | LLRT_CONTINUES, or 0. */
LLRT_API llrt_status llrt_detokenizer_create(const llrt_model* model, uint32_t flags, llrt_detokenizer** detokenizer);
LLRT_API void llrt_detokenizer_free(llrt_detokenizer* detokenizer);
/* Text that `token` completes, UTF-8, perhaps empty, ended by a zero byte that *size does not count; valid until the
 * next call on this detokenizer. `size` may be null. */
LLRT_API llrt_status llrt_detokenizer_next(llrt_detokenizer* detokenizer, int32_t token, const char** text,
                                           size_t* size);
/* What still waits, with U+FFFD for bytes that never became whole, and starts anew. */
LLRT_API llrt_status llrt_detokenizer_flush(llrt_detokenizer* detokenizer, const char** text, size_t* size);

/* ---- Facts ---- */

/* Reads every byte of a plan and compares every checksum, with those of the files it names (`model_dir` as in
 * llrt_open_params, may be null). On success *json (if json is not null) describes the plan; free it with
 * llrt_text_free. */
LLRT_API llrt_status llrt_verify(const char* path, const char* model_dir, char** json);
/* What this machine offers (CPU, instruction sets, threads, limits, memory) and, with a plan, what it needs, as JSON;
 * free it with llrt_text_free. `plan_path` may be null. */
LLRT_API llrt_status llrt_doctor(const char* plan_path, char** json);
LLRT_API void llrt_text_free(char* text);

#ifdef __cplusplus
}
#endif

#endif /* LLRT_H_ */
