// Continues several texts at once with the C++ interface of libllrt: their decode steps share each pass over the
// weights.
//
//   embed_cpp PLAN.llcp [PROMPT...]
#include <algorithm>
#include <iostream>
#include <llrt.hpp>
#include <string>
#include <vector>

namespace {

constexpr int kTokens = 48;

// A text on its way: its tokens' keys and values in the model, and what was said so far.
struct Story {
  llrt::Session session;
  llrt::Detokenizer detokenizer;
  std::string text;
  bool done = false;

  Story(const llrt::Model& model, const std::string& prompt) : session(model), detokenizer(model), text(prompt) {
    session.prefill(model.tokenize(prompt));
  }
};

int run(const std::string& path, const std::vector<std::string>& prompts) {
  const llrt::Model model(path);
  const size_t context = model.info().context_length;
  std::vector<Story> stories;
  for (const std::string& prompt : prompts) stories.emplace_back(model, prompt);

  llrt::SampleParams sampling;
  sampling.temperature = 0.7F;
  for (int i = 0; i < kTokens; ++i) {
    std::vector<llrt::Session*> sessions;
    std::vector<int32_t> tokens;
    for (Story& story : stories) {
      if (story.done) continue;
      const int32_t token = story.session.sample(sampling);
      story.done = model.is_eos(token) || story.session.length() == context;
      if (story.done) continue;
      story.text += story.detokenizer.next(token);
      sessions.push_back(&story.session);
      tokens.push_back(token);
    }
    if (sessions.empty()) break;
    llrt::decode(sessions, tokens);
  }
  for (Story& story : stories) std::cout << story.text << story.detokenizer.flush() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: embed_cpp PLAN.llcp [PROMPT...]\n";
    return LLRT_USAGE;
  }
  std::vector<std::string> prompts(argv + 2, argv + argc);
  if (prompts.empty()) prompts = {"In the beginning", "And the king said unto"};
  try {
    return run(argv[1], prompts);
  } catch (const llrt::Error& e) {
    std::cerr << "embed_cpp: " << e.what() << "\n";
    return e.status();
  }
}
