/* Continues a text with the C interface of libllrt.
 *
 *   embed_c PLAN.llcp [PROMPT]
 */
#include <llrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kTokens = 64 };

/* Prints the library's message; its status codes are exit codes too. */
static int fail(const char* what, llrt_status status) {
  fprintf(stderr, "embed_c: %s: %s\n", what, llrt_last_error());
  return (int)status;
}

static int generate(const llrt_model* model, llrt_session* session, llrt_detokenizer* detokenizer, const char* prompt) {
  llrt_status status;
  llrt_model_info info;
  llrt_sample_params sampling;
  int32_t* ids;
  size_t count, size;
  const char* text;
  int i;

  info.struct_size = sizeof info;
  if ((status = llrt_model_get_info(model, &info)) != LLRT_OK) return fail("info", status);

  /* Once for the number of ids, once for the ids. */
  if ((status = llrt_tokenize(model, prompt, strlen(prompt), LLRT_ADD_SPECIAL, NULL, 0, &count)) != LLRT_OK) {
    return fail("tokenize", status);
  }
  ids = malloc(count * sizeof *ids + 1);
  if (ids == NULL) return LLRT_OUT_OF_MEMORY;
  status = llrt_tokenize(model, prompt, strlen(prompt), LLRT_ADD_SPECIAL, ids, count, &count);
  if (status == LLRT_OK) status = llrt_session_prefill(session, ids, count);
  free(ids);
  if (status != LLRT_OK) return fail("prompt", status);

  llrt_sample_params_init(&sampling, sizeof sampling);
  sampling.temperature = 0.7f;
  sampling.seed = 1;
  printf("%s", prompt);
  for (i = 0; i < kTokens; ++i) {
    int32_t token;
    if ((status = llrt_session_sample(session, &sampling, &token)) != LLRT_OK) return fail("sample", status);
    if (llrt_model_is_eos(model, token)) break;
    if ((status = llrt_detokenizer_next(detokenizer, token, &text, &size)) != LLRT_OK) return fail("text", status);
    fwrite(text, 1, size, stdout);
    fflush(stdout);
    if (llrt_session_length(session) == info.context_length) break;
    if ((status = llrt_session_decode(&session, &token, 1)) != LLRT_OK) return fail("decode", status);
  }
  if ((status = llrt_detokenizer_flush(detokenizer, &text, &size)) != LLRT_OK) return fail("text", status);
  fwrite(text, 1, size, stdout);
  printf("\n");
  return 0;
}

int main(int argc, char** argv) {
  llrt_model* model = NULL;
  llrt_session* session = NULL;
  llrt_detokenizer* detokenizer = NULL;
  llrt_status status;
  int result;

  if (argc < 2) {
    fprintf(stderr, "usage: embed_c PLAN.llcp [PROMPT]\n");
    return LLRT_USAGE;
  }
  if ((status = llrt_model_open(argv[1], NULL, &model)) != LLRT_OK) {
    result = fail(argv[1], status);
  } else if ((status = llrt_session_create(model, &session)) != LLRT_OK) {
    result = fail("session", status);
  } else if ((status = llrt_detokenizer_create(model, LLRT_CONTINUES, &detokenizer)) != LLRT_OK) {
    result = fail("detokenizer", status);
  } else {
    result = generate(model, session, detokenizer, argc > 2 ? argv[2] : "In the beginning");
  }
  llrt_detokenizer_free(detokenizer);
  llrt_session_free(session);
  llrt_model_close(model);
  return result;
}
