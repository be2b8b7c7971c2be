#include "base/resolve_links.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <deque>
#include <optional>
#include <string_view>
#include <system_error>

namespace blobcache::base {
namespace {

/// What a link says; absent for all else. (std::filesystem::read_symlink() looks at the file, too.)
std::optional<std::filesystem::path> link_at(const std::filesystem::path& path) {
  std::array<char, PATH_MAX> text{};
  const ssize_t length = ::readlink(path.c_str(), text.data(), text.size());
  if (length <= 0) return std::nullopt;
  return std::string_view(text.data(), static_cast<size_t>(length));
}

}  // namespace

std::filesystem::path resolve_links(const std::filesystem::path& path) {
  constexpr int kMostLinks = 40;  // as the kernel has it
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  if (error) return path.lexically_normal();
  std::deque<std::filesystem::path> left(whole.begin(), whole.end());
  std::filesystem::path done = "/";
  int links = 0;
  while (!left.empty()) {
    const std::filesystem::path name = left.front();
    left.pop_front();
    if (name.empty() || name == "/" || name == ".") continue;
    if (name == "..") {
      done = done.parent_path();
      continue;
    }
    const std::optional<std::filesystem::path> target = link_at(done / name);
    if (!target || ++links > kMostLinks) {
      done /= name;
      continue;
    }
    if (target->is_absolute()) done = "/";
    left.insert(left.begin(), target->begin(), target->end());
  }
  return done;
}

}  // namespace blobcache::base
