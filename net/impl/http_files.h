#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "net/impl/http_client.h"
#include "net/impl/http_source.h"
#include "net/impl/http_version.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// What a server has at a path. Value type.
struct HttpFound {
  bool is_folder = false;
  HttpVersion version;  ///< of a file
};

/// What has been seen of an origin, and is open of it: makes the tree's entries and sources.
///
/// Remembers what each path was when it was last seen, up to kMostRemembered bytes: while the
/// server is away that is told, so that the bytes that are here can be opened. Only folders and
/// versions with a strong validator are told so.
///
/// Thread-safe.
class HttpFiles {
 public:
  static constexpr size_t kMostRemembered = size_t{16} << 20;

  /// `place` is what lasting keys are made of: type, origin and url.
  HttpFiles(std::shared_ptr<HttpClient> client, std::string place);

  /// `found` is what the server said of `path` just now. Where it is UNAVAILABLE, what it was.
  [[nodiscard]] absl::StatusOr<HttpFound> remember(std::string_view path,
                                                   absl::StatusOr<HttpFound> found);
  [[nodiscard]] tree::OriginEntry entry(std::string_view path, const HttpFound& found) const;
  /// What was found at `path`, which is `url_path` in a request. FAILED_PRECONDITION for a folder.
  [[nodiscard]] absl::StatusOr<tree::OriginFile> open(std::string_view path, std::string url_path,
                                                      const HttpFound& found);

 private:
  using Seen = std::list<std::pair<std::string, HttpFound>>;

  void forget(Seen::iterator seen) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<HttpClient> client_;
  const std::string place_;
  absl::Mutex mutex_;
  /// Those without a strong validator, which are known by being open alone.
  std::map<std::string, std::weak_ptr<HttpSource>, std::less<>> open_ ABSL_GUARDED_BY(mutex_);
  Seen seen_ ABSL_GUARDED_BY(mutex_);  ///< the last one first
  absl::flat_hash_map<std::string, Seen::iterator> by_path_ ABSL_GUARDED_BY(mutex_);
  size_t seen_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

[[nodiscard]] tree::OriginEntry http_folder(std::string_view path);

/// What the head of a reply tells of a file of `size_bytes`.
[[nodiscard]] HttpVersion http_version(const HttpHead& head, uint64_t size_bytes);

/// What is no success, as an answer to who asked what something is.
[[nodiscard]] absl::Status http_refusal(const HttpHead& head);

/// The last component of a path.
[[nodiscard]] std::string_view last_part(std::string_view path);

}  // namespace blobcache::net
