#include "net/impl/http_files.h"

#include <fmt/format.h>

#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "net/impl/http_judge.h"

namespace blobcache::net {

namespace {

/// What a path that is remembered takes, about.
size_t bytes_of(const std::pair<std::string, HttpFound>& seen) {
  constexpr size_t kOfEach = 256;
  const HttpVersion& version = seen.second.version;
  return kOfEach + 2 * seen.first.size() + version.etag.size() + version.last_modified.size() +
         version.version_id.size();
}

}  // namespace

std::string_view last_part(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

tree::OriginEntry http_folder(std::string_view path) {
  tree::OriginEntry entry;
  entry.name = std::string(last_part(path));
  entry.kind = tree::OriginEntry::Kind::kDirectory;
  return entry;
}

HttpVersion http_version(const HttpHead& head, uint64_t size_bytes) {
  return {size_bytes, head.etag, head.last_modified, head.version_id};
}

absl::Status http_refusal(const HttpHead& head) {
  const std::optional<HttpFailure> failure = judge_status(head, absl::Now());
  if (!failure) {
    return base::error(absl::StatusCode::kUnavailable,
                       fmt::format("the server answers HTTP {}", head.status));
  }
  // None of them means here what it means of a range.
  if (absl::IsAborted(failure->status) || absl::IsUnimplemented(failure->status)) {
    return base::error(absl::StatusCode::kUnavailable, base::message(failure->status));
  }
  return failure->status;
}

HttpFiles::HttpFiles(std::shared_ptr<HttpClient> client, std::string place)
    : client_(std::move(client)), place_(std::move(place)) {}

absl::StatusOr<HttpFound> HttpFiles::remember(std::string_view path,
                                              absl::StatusOr<HttpFound> found) {
  const std::string name(path);
  const absl::MutexLock lock(&mutex_);
  const auto at = by_path_.find(name);
  if (absl::IsUnavailable(found.status())) {
    if (at == by_path_.end()) return found;
    return at->second->second;
  }
  if (at != by_path_.end()) forget(at->second);
  const bool is_told = found.ok() && (found->is_folder || found->version.is_strong());
  if (!is_told) return found;
  seen_.emplace_front(name, *found);
  by_path_[name] = seen_.begin();
  seen_bytes_ += bytes_of(seen_.front());
  while (seen_bytes_ > kMostRemembered) forget(std::prev(seen_.end()));
  return found;
}

void HttpFiles::forget(Seen::iterator seen) {
  seen_bytes_ -= bytes_of(*seen);
  by_path_.erase(seen->first);
  seen_.erase(seen);
}

tree::OriginEntry HttpFiles::entry(std::string_view path, const HttpFound& found) const {
  if (found.is_folder) return http_folder(path);
  tree::OriginEntry entry;
  entry.name = std::string(last_part(path));
  entry.kind = tree::OriginEntry::Kind::kFile;
  entry.size_bytes = found.version.size_bytes;
  entry.modified = found.version.modified();
  if (found.version.is_strong()) entry.version = found.version.lasting_key(place_, path);
  return entry;
}

absl::StatusOr<tree::OriginFile> HttpFiles::open(std::string_view path, std::string url_path,
                                                 const HttpFound& found) {
  if (found.is_folder) {
    return absl::FailedPreconditionError(
        fmt::format("{}: a directory", path.empty() ? "the origin" : tree::printable(path)));
  }
  const HttpVersion& version = found.version;
  const auto make = [&](const page::ObjectKey& key) {
    const auto target = std::make_shared<HttpTarget>();
    target->path = std::move(url_path);
    target->version = version;
    target->vitals = client_->vitals();
    return std::make_shared<HttpSource>(client_, target, key);
  };
  tree::OriginFile file;
  file.lasting = version.is_strong();
  std::shared_ptr<HttpSource> source;
  if (file.lasting) {
    source = make(version.lasting_key(place_, path));
  } else {
    const absl::MutexLock lock(&mutex_);
    std::erase_if(open_, [](const auto& each) { return each.second.expired(); });
    const auto at = open_.find(path);
    if (at != open_.end()) source = at->second.lock();
    if (!source || source->is_over() || !(source->version() == version)) {
      source = make(page::ObjectKey::random());
      open_[std::string(path)] = source;
    }
  }
  file.version = {source->key(), version.size_bytes, source};
  return file;
}

}  // namespace blobcache::net
