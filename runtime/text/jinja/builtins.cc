#include "runtime/text/jinja/builtins.h"

#include <vector>

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {
namespace {

std::vector<std::string_view> names_of(const char* parameters) {
  std::vector<std::string_view> names;
  for (std::string_view rest = parameters; !rest.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    names.push_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return names;
}

// 'a', 'b', and 'c'
std::string enumerate(const std::vector<std::string_view>& names) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += names.size() == 2 ? " and " : i + 1 == names.size() ? ", and " : ", ";
    out += fmt::format("'{}'", names[i]);
  }
  return out;
}

}  // namespace

Result<Bound> bind(const Signature& signature, const Args& args) {
  const std::vector<std::string_view> names = names_of(signature.parameters);
  Bound bound;
  const size_t given = args.positional.size() + signature.hidden, most = names.size() + signature.hidden,
               least = signature.required + size_t{signature.hidden};
  if (args.positional.size() > names.size()) {
    const std::string range = least == most ? std::to_string(most) : fmt::format("from {} to {}", least, most);
    return bad_data("{}() takes {} positional argument{} but {} {} given", signature.function, range,
                    most == 1 ? "" : "s", given, given == 1 ? "was" : "were");
  }
  for (size_t i = 0; i < args.positional.size(); ++i) bound.values[i] = args.positional[i];
  for (const auto& [key, v] : args.named) {
    size_t i = 0;
    while (i < names.size() && names[i] != key.bytes()) ++i;
    if (i == names.size()) {
      return bad_data("{}() got an unexpected keyword argument '{}'", signature.function, key.bytes());
    }
    if (!bound.values[i].missing()) {
      return bad_data("{}() got multiple values for argument '{}'", signature.function, key.bytes());
    }
    bound.values[i] = v;
  }
  std::vector<std::string_view> absent;
  for (size_t i = 0; i < signature.required; ++i) {
    if (bound.values[i].missing()) absent.push_back(names[i]);
  }
  if (!absent.empty()) {
    return bad_data("{}() missing {} required positional argument{}: {}", signature.function, absent.size(),
                    absent.size() == 1 ? "" : "s", enumerate(absent));
  }
  return bound;
}

}  // namespace ll::jinja
