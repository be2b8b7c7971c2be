#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/http_url.h"
#include "base/s3_url.h"
#include "net/impl/http_client.h"
#include "net/impl/http_files.h"
#include "net/impl/s3_listing.h"
#include "net/s3_origin.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// A bucket's objects as an origin: slashes in keys make folders. An object is a file where there
/// is a folder of the same name, too. Keys that cannot be paths are left out, and so are those that
/// end with a slash, which some programs make for folders.
///
/// Thread-safe.
class S3Tree final : public tree::Origin {
 public:
  /// `options` have been checked; `url` and `endpoint` are theirs.
  S3Tree(const S3OriginOptions& options, const base::S3Url& url, const base::HttpUrl& endpoint);
  ~S3Tree() override;

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] std::string type() const override { return "s3"; }
  [[nodiscard]] std::string url_of(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginEntry> look_up(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> list(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginFile> open(std::string_view path) override;
  [[nodiscard]] tree::OriginHealth health() const override { return client_->vitals()->health(); }
  void stop() override { client_->stop(); }

 private:
  [[nodiscard]] std::string url_path(std::string_view path) const;
  [[nodiscard]] absl::StatusOr<HttpFound> find(std::string_view path);
  [[nodiscard]] absl::StatusOr<HttpFound> ask(std::string_view path);
  /// Whether any key is beneath `path`.
  [[nodiscard]] absl::StatusOr<bool> is_folder(std::string_view path);
  /// One page of what is directly beneath keys' `prefix`; `next` is where it goes on.
  [[nodiscard]] absl::StatusOr<S3Page> list_page(const std::string& prefix, const std::string& next,
                                                 size_t most);

  const std::string name_;
  const base::S3Url url_;
  const base::HttpUrl server_;
  const std::string bucket_path_;  ///< "/" or "/BUCKET/", percent-encoded
  const std::shared_ptr<HttpClient> client_;
  HttpFiles files_;
};

}  // namespace blobcache::net
