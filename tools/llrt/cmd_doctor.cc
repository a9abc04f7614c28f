#include <llrt.hpp>
#include <nlohmann/json.hpp>

#include "tools/llrt/commands.h"

namespace ll {
namespace {

using Json = nlohmann::ordered_json;

struct DoctorArguments {
  std::string plan;
  bool json = false;
};

// "kv_pool_bytes": 1234567 -> "kv pool", "1.2 MiB".
std::pair<std::string, std::string> line(const std::string& key, const Json& value) {
  constexpr std::string_view kBytes = "_bytes";
  const bool bytes = key.ends_with(kBytes);
  std::string name = bytes ? key.substr(0, key.size() - kBytes.size()) : key;
  std::string text;
  if (value.is_null()) {
    text = "none";
  } else if (value.is_boolean()) {
    text = value.get<bool>() ? "yes" : "no";
  } else if (value.is_string()) {
    text = value.get<std::string>();
  } else if (bytes && value.is_number()) {
    text = fmt::format("{:.1f} MiB", value.get<double>() / (1 << 20));
  } else if (value.is_object()) {
    for (const auto& [k, v] : value.items()) {
      if (v.is_boolean() && v.get<bool>()) text += (text.empty() ? "" : " ") + k;
    }
  } else if (value.is_array()) {
    for (const Json& v : value) text += (text.empty() ? "" : " ") + v.get<std::string>();
  } else {
    text = value.dump();
  }
  std::replace(name.begin(), name.end(), '_', ' ');
  return {name, text};
}

// {"name": "sm_75", "kernels": 40} -> "sm_75, kernels 40".
std::string joined(const Json& facts) {
  std::string text;
  for (const auto& [key, value] : facts.items()) {
    const auto [name, shown] = line(key, value);
    text += (text.empty() ? "" : ", ") + (key == "name" ? shown : name + " " + shown);
  }
  return text;
}

void print(const std::string& part, const Json& facts) {
  fmt::print("\n{}\n", part);
  for (const auto& [key, value] : facts.items()) {
    if (value.is_object() && part == "plan") {
      print(part + ": " + key, value);
    } else if (value.is_array() && !value.empty() && value[0].is_object()) {
      const std::string name = line(key.substr(0, key.size() - 1), "").first;
      for (const Json& v : value) fmt::print("  {:<26} {}\n", name, joined(v));
    } else {
      const auto [name, shown] = line(key, value);
      fmt::print("  {:<26} {}\n", name, shown);
    }
  }
}

Status run(const DoctorArguments& options) {
  const std::string text = llrt::doctor(options.plan);
  if (options.json) {
    fmt::print("{}\n", text);
    return {};
  }
  const Json facts = Json::parse(text);
  fmt::print("llrt {} (API {})\n", facts["version"].get<std::string>(), facts["api_version"].get<int>());
  for (const char* part : {"machine", "gpu", "plan"}) {
    if (facts.contains(part)) print(part, facts[part]);
  }
  return {};
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto options = std::make_shared<DoctorArguments>();
  app.add_option("plan", options->plan, "plan whose needs are shown too")->type_name("PLAN");
  app.add_flag("--json", options->json, "print the facts as JSON");
  return [options] { return run(*options); };
}

}  // namespace ll
