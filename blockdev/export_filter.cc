#include "blockdev/export_filter.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

namespace blobcache::blockdev {
namespace {

constexpr size_t kMaxPattern = 4096;

}  // namespace

absl::StatusOr<ExportFilter> ExportFilter::parse(const std::vector<std::string>& patterns) {
  ExportFilter filter;
  for (const std::string& text : patterns) {
    const char* reason = nullptr;
    if (text.empty()) {
      reason = "it is empty";
    } else if (text.front() == '/' || text.back() == '/') {
      reason = "it starts or ends with a slash";
    } else if (text.find_first_of("[]") != std::string::npos) {
      reason = "brackets have no meaning here; \"?\" stands for any one character";
    } else if (text.size() > kMaxPattern) {
      reason = "it is over 4096 bytes";
    }
    if (reason != nullptr) {
      return base::error(absl::StatusCode::kInvalidArgument,
                         fmt::format("export pattern \"{}\": {}", text.substr(0, 80), reason));
    }
    filter.patterns_.push_back(compile(text));
  }
  return filter;
}

ExportFilter::Pattern ExportFilter::compile(std::string_view text) {
  Pattern pattern;
  for (size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i);
    const bool starts_component = i == 0 || text[i - 1] == '/';
    if (starts_component && rest.starts_with("**/")) {
      pattern.push_back({Kind::kAnyComponents, 0});
      i += 3;
    } else if (rest.starts_with("**")) {
      pattern.push_back({Kind::kAnyRun, 0});
      i += 2;
    } else if (rest.front() == '*') {
      pattern.push_back({Kind::kAnyInComponent, 0});
      i += 1;
    } else {
      pattern.push_back(rest.front() == '?' ? Token{Kind::kAnyOne, 0}
                                            : Token{Kind::kLiteral, rest.front()});
      i += 1;
    }
  }
  return pattern;
}

// Follows every way of matching at once: `alive[i]` says that the path so far can have brought us
// in front of token i. Time is tokens times characters, whatever the stars; backtracking would be
// exponential in them.
bool ExportFilter::matches(const Pattern& pattern, std::string_view path, End end) {
  const size_t count = pattern.size();
  std::vector<char> alive(count + 1, 0);
  std::vector<char> next(count + 1, 0);
  const auto skip_empty = [&pattern, count](std::vector<char>& states) {
    for (size_t i = 0; i < count; ++i) {
      const Kind kind = pattern[i].kind;
      if (states[i] == 1 && kind != Kind::kLiteral && kind != Kind::kAnyOne && states[i + 1] == 0) {
        states[i + 1] = 1;
      }
    }
  };
  alive[0] = 1;
  skip_empty(alive);
  for (const char c : path) {
    std::fill(next.begin(), next.end(), char{0});
    for (size_t i = 0; i < count; ++i) {
      if (alive[i] == 0) continue;
      switch (pattern[i].kind) {
        case Kind::kLiteral:
          if (c == pattern[i].literal) next[i + 1] = 1;
          break;
        case Kind::kAnyOne:
          if (c != '/') next[i + 1] = 1;
          break;
        case Kind::kAnyInComponent:
          if (c != '/') next[i] = 1;
          break;
        case Kind::kAnyRun:
          next[i] = 1;
          break;
        case Kind::kAnyComponents:  // 2: inside a component, which only a slash ends
          next[i] = c == '/' ? char{1} : char{2};
          break;
      }
    }
    alive.swap(next);
    skip_empty(alive);
  }
  if (end == End::kWhole) return alive[count] != 0;
  // What comes after the prefix must be at least one character, so some token must be left for it.
  return std::any_of(alive.begin(), alive.begin() + static_cast<std::ptrdiff_t>(count),
                     [](char state) { return state != 0; });
}

bool ExportFilter::allows(std::string_view path) const {
  return std::any_of(patterns_.begin(), patterns_.end(), [path](const Pattern& pattern) {
    return matches(pattern, path, End::kWhole);
  });
}

bool ExportFilter::allows_below(std::string_view directory) const {
  std::string prefix(directory);
  prefix.push_back('/');
  return std::any_of(patterns_.begin(), patterns_.end(), [&prefix](const Pattern& pattern) {
    return matches(pattern, prefix, End::kPrefix);
  });
}

}  // namespace blobcache::blockdev
