#include "store/tree/path.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

namespace blobcache::tree {

absl::Status check_name(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("an empty name");
  if (name == "." || name == "..") {
    return absl::InvalidArgumentError("\".\" and \"..\" have no meaning here");
  }
  if (name.find('\0') != std::string_view::npos) return absl::InvalidArgumentError("a NUL byte");
  if (name.find('/') != std::string_view::npos) {
    return absl::InvalidArgumentError("a slash inside a name");
  }
  if (name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        fmt::format("a name of {} bytes; at most {} are allowed", name.size(), kMaxNameBytes));
  }
  return absl::OkStatus();
}

bool is_link_target(std::string_view target) {
  return !target.empty() && target.size() <= kMaxTargetBytes &&
         target.find('\0') == std::string_view::npos;
}

absl::StatusOr<std::vector<std::string_view>> split_path(std::string_view path) {
  std::vector<std::string_view> names;
  if (path.size() > kMaxPathBytes) {
    return absl::InvalidArgumentError(
        fmt::format("bad path \"{}\": {} bytes; at most {} are allowed", printable(path),
                    path.size(), kMaxPathBytes));
  }
  std::string_view rest = path;
  if (rest.starts_with('/')) rest.remove_prefix(1);
  while (!rest.empty()) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view name = rest.substr(0, slash);
    if (const absl::Status status = check_name(name); !status.ok()) {
      return base::annotate(status, fmt::format("bad path \"{}\"", printable(path)));
    }
    names.push_back(name);
    if (slash + 1 == rest.size()) {
      return absl::InvalidArgumentError(
          fmt::format("bad path \"{}\": a slash at the end", printable(path)));
    }
    rest.remove_prefix(std::min(slash + 1, rest.size()));
  }
  return names;
}

bool is_within_files(std::string_view path) {
  const absl::StatusOr<std::vector<std::string_view>> names = split_path(path);
  return names.ok() && !names->empty() && names->front() == "files";
}

std::string printable(std::string_view path) {
  constexpr size_t kLongest = 512;
  std::string text;
  for (const char c : path.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\\') {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  if (path.size() > kLongest) text += "...";
  return text;
}

}  // namespace blobcache::tree
