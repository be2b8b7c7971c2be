#include "net/impl/nbd_exports.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

bool is_path(std::string_view name) {
  if (name.empty() || name.starts_with('/')) return false;
  if (std::count(name.begin(), name.end(), '/') >= std::ptrdiff_t{NbdExports::kMaxDepth})
    return false;
  return tree::split_path(name).ok();
}

}  // namespace

NbdExports::NbdExports(std::vector<std::string> names) : names_(std::move(names)) {
  std::sort(names_.begin(), names_.end());
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  const bool nameless = !names_.empty() && names_.front().empty();
  if (nameless) names_.erase(names_.begin());
  const size_t different = names_.size();
  std::erase_if(names_, [](const std::string& name) { return !is_path(name); });
  // Shorter paths come first, so that of "a" and "a/b" it is "a" that stays. What is beneath one
  // that is left out itself is beneath the same name as that.
  std::vector<bool> stays(names_.size());
  for (size_t i = 0; i < names_.size(); ++i) stays[i] = fits(names_[i]);
  size_t next = 0;
  std::erase_if(names_, [&](const std::string&) { return !stays[next++]; });
  names_.shrink_to_fit();
  left_out_ = different - names_.size();
  if (!nameless) return;
  if (at(kNameless) != Kind::kNothing) {
    nameless_ = Nameless::kHidden;
    return;
  }
  nameless_ = Nameless::kShown;
  names_.emplace(std::lower_bound(names_.begin(), names_.end(), kNameless), kNameless);
}

bool NbdExports::is_export(std::string_view path) const {
  return std::binary_search(names_.begin(), names_.end(), path);
}

bool NbdExports::fits(std::string_view name) const {
  for (size_t at = name.find('/'); at != std::string_view::npos; at = name.find('/', at + 1)) {
    if (is_export(name.substr(0, at))) return false;
  }
  return true;
}

NbdExports::Kind NbdExports::at(std::string_view path) const {
  if (path.empty()) return Kind::kDirectory;
  if (is_export(path)) return Kind::kExport;
  const std::string prefix = std::string(path) + "/";
  const auto found = std::lower_bound(names_.begin(), names_.end(), prefix);
  return found != names_.end() && found->starts_with(prefix) ? Kind::kDirectory : Kind::kNothing;
}

absl::StatusOr<std::vector<NbdExports::Entry>> NbdExports::list(std::string_view path,
                                                                size_t max_entries) const {
  switch (at(path)) {
    case Kind::kNothing:
      return absl::NotFoundError(fmt::format("{}: no such export", tree::printable(path)));
    case Kind::kExport:
      return absl::FailedPreconditionError(
          fmt::format("{}: not a directory", tree::printable(path)));
    case Kind::kDirectory:
      break;
  }
  const std::string prefix = path.empty() ? std::string() : std::string(path) + "/";
  std::vector<Entry> entries;
  for (auto it = std::lower_bound(names_.begin(), names_.end(), prefix);
       it != names_.end() && it->starts_with(prefix);) {
    if (entries.size() == max_entries) {
      return absl::ResourceExhaustedError(
          fmt::format("the server lists more than {} exports in one directory", max_entries));
    }
    const size_t slash = it->find('/', prefix.size());
    const bool directory = slash != std::string::npos;
    entries.push_back({it->substr(prefix.size(), slash - prefix.size()), directory});
    // Of a directory all names stand together, before what follows the slash in the alphabet.
    it = directory ? std::lower_bound(it, names_.end(), it->substr(0, slash) + char{'/' + 1})
                   : std::next(it);
  }
  // "a-b" stands before "a/b" among the names, and after "a" among the entries.
  std::sort(entries.begin(), entries.end(),
            [](const Entry& left, const Entry& right) { return left.name < right.name; });
  return entries;
}

}  // namespace blobcache::net
