// The requests in tests/data/http.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

namespace ll::serve {

struct HttpCase {
  std::string name;
  int status = 200;
  std::string bytes;
};

// Lines of tab-separated columns: name, status unless `valid`, escaped bytes.
inline std::vector<HttpCase> read_http_cases(const std::string& file, bool valid) {
  std::ifstream in(LLCUDA_SOURCE_DIR "/tests/data/http/" + file);
  EXPECT_TRUE(in.good());
  std::vector<HttpCase> cases;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    HttpCase c;
    size_t tab = line.find('\t');
    c.name = line.substr(0, tab);
    line.erase(0, tab + 1);
    if (!valid) {
      tab = line.find('\t');
      c.status = std::stoi(line.substr(0, tab));
      line.erase(0, tab + 1);
    }
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] != '\\') {
        c.bytes += line[i];
        continue;
      }
      switch (line[++i]) {
        case 'r':
          c.bytes += '\r';
          break;
        case 'n':
          c.bytes += '\n';
          break;
        case 't':
          c.bytes += '\t';
          break;
        case 'x':
          c.bytes += static_cast<char>(std::stoi(line.substr(i + 1, 2), nullptr, 16));
          i += 2;
          break;
        default:
          c.bytes += line[i];
      }
    }
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace ll::serve
