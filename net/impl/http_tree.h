#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/http_url.h"
#include "net/http_origin.h"
#include "net/impl/http_client.h"
#include "net/impl/http_files.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// A folder of an HTTP server as an origin. A path is asked for by HEAD, or where the server
/// refuses that by one byte; a redirect to the same path with a slash says that it is a folder.
/// Folders are listed from the pages that servers make of them, and each of a page's files is asked
/// for, since the pages tell no validators.
///
/// Thread-safe.
class HttpTree final : public tree::Origin {
 public:
  /// `options` have been checked, `url` is theirs.
  HttpTree(const HttpOriginOptions& options, const base::HttpUrl& url);
  ~HttpTree() override;

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::string description() const override { return "http " + url_.to_string(); }
  [[nodiscard]] std::string type() const override { return "http"; }
  [[nodiscard]] std::string url_of(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginEntry> look_up(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> list(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginFile> open(std::string_view path) override;
  [[nodiscard]] tree::OriginHealth health() const override { return client_->vitals()->health(); }
  void stop() override { client_->stop(); }

 private:
  [[nodiscard]] std::string url_path(std::string_view path) const;
  [[nodiscard]] HttpRequest head_request(std::string_view path) const;
  /// What the server has there now; what was remembered of it while the server is away.
  [[nodiscard]] absl::StatusOr<HttpFound> find(std::string_view path);
  [[nodiscard]] absl::StatusOr<HttpFound> find_by_get(std::string_view path);
  /// What the answer to a HEAD says; asks again if that was refused.
  [[nodiscard]] absl::StatusOr<HttpFound> found_by(std::string_view path,
                                                   const absl::StatusOr<HttpAnswer>& answer);
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> entries_of(
      std::string_view path, const std::vector<std::string>& files);

  const std::string name_;
  const base::HttpUrl url_;
  const std::shared_ptr<HttpClient> client_;
  HttpFiles files_;
  std::atomic<bool> refuses_head_ = false;
};

}  // namespace blobcache::net
