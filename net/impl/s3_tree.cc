#include "net/impl/s3_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "net/impl/s3_credentials.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

constexpr size_t kMostPageBytes = size_t{8} << 20;
constexpr size_t kMostOfPage = 1000;  // names, as S3 has it
/// More pages than a full folder has; for servers that send empty ones.
constexpr size_t kMostPages = 4 * (tree::kMaxOriginEntries / kMostOfPage + 1);

bool is_in_path(const S3OriginOptions& options, const base::S3Url& url,
                const base::HttpUrl& endpoint) {
  return options.path_style || (endpoint.tls && url.bucket.find('.') != std::string::npos);
}

base::HttpUrl server_of(const S3OriginOptions& options, const base::S3Url& url,
                        base::HttpUrl endpoint) {
  if (!is_in_path(options, url, endpoint)) endpoint.host = url.bucket + "." + endpoint.host;
  return endpoint;
}

HttpSettings s3_settings(const S3OriginOptions& options, const base::S3Url& url,
                         const base::HttpUrl& server, const std::string& bucket_path) {
  HttpSettings settings;
  settings.server = server;
  settings.what = fmt::format("origin {} ({})", options.name, url.to_string());
  settings.connections = options.connections;
  settings.connect_timeout = options.connect_timeout;
  settings.request_timeout = options.request_timeout;
  settings.stall_timeout = options.stall_timeout;
  settings.rate_limit = options.rate_limit;
  settings.proxy = options.proxy;
  settings.tls_ca = options.tls_ca;
  settings.private_redirects = options.private_redirects;
  settings.auth =
      std::make_shared<S3Auth>(options.region, options.credentials_file, options.profile);
  // An object's encoding is what who put it said of it; its bytes, size and ETag are as they are.
  // Nor is an Accept-Encoding sent, which would be signed, and some proxies change it.
  settings.takes_encodings = true;
  settings.probe.is_head = true;
  settings.probe.path = bucket_path;
  return settings;
}

absl::Status no_such_key(std::string_view path) {
  return absl::NotFoundError(fmt::format("{}: the bucket has no such key", tree::printable(path)));
}

}  // namespace

S3Tree::S3Tree(const S3OriginOptions& options, const base::S3Url& url,
               const base::HttpUrl& endpoint)
    : name_(options.name),
      url_(url),
      server_(server_of(options, url, endpoint)),
      bucket_path_(is_in_path(options, url, endpoint) ? fmt::format("/{}/", url.bucket) : "/"),
      client_(std::make_shared<HttpClient>(s3_settings(options, url, server_, bucket_path_))),
      files_(client_, fmt::format("s3{0}{1}{0}{2}{0}{3}", '\0', options.name, server_.to_string(),
                                  url.to_string())) {}

S3Tree::~S3Tree() { client_->end(); }

std::string S3Tree::description() const {
  return fmt::format("s3 {} at {}", url_.to_string(), server_.server());
}

std::string S3Tree::url_path(std::string_view path) const {
  return bucket_path_ + base::escape_url(url_.prefix, true) + base::escape_url(path, true);
}

std::string S3Tree::url_of(std::string_view path) {
  return url_.to_string() + base::escape_url(path, true);
}

absl::StatusOr<S3Page> S3Tree::list_page(const std::string& prefix, const std::string& next,
                                         size_t most) {
  HttpRequest request;
  request.path = bucket_path_;
  // Sorted, since libcurl signs them in the order in which they stand.
  if (!next.empty()) request.query = "continuation-token=" + base::escape_url(next, false) + "&";
  request.query += "delimiter=%2F&list-type=2";
  request.query += fmt::format("&max-keys={}&prefix={}", most, base::escape_url(prefix, false));
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpAnswer answer,
                             client_->ask(std::move(request), kMostPageBytes));
  if (answer.head.status != 200) {
    const std::string code = s3_error_code(answer.body);
    return base::annotate(http_refusal(answer.head),
                          code.empty() ? "the listing" : fmt::format("the listing ({})", code));
  }
  absl::StatusOr<S3Page> page = parse_list_objects(answer.body, kMostOfPage);
  if (page.ok()) return page;
  return base::error(absl::StatusCode::kUnavailable, base::message(page.status()));
}

absl::StatusOr<bool> S3Tree::is_folder(std::string_view path) {
  const std::string prefix = fmt::format("{}{}/", url_.prefix, path);
  BLOBCACHE_ASSIGN_OR_RETURN(const S3Page page, list_page(prefix, "", 1));
  return !page.objects.empty() || !page.prefixes.empty();
}

absl::StatusOr<HttpFound> S3Tree::ask(std::string_view path) {
  HttpRequest request;
  request.is_head = true;
  request.path = url_path(path);
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpAnswer answer, client_->ask(std::move(request), 0));
  const HttpHead& head = answer.head;
  if (head.status == 200 && head.content_length) {
    return HttpFound{false, http_version(head, *head.content_length)};
  }
  if (head.status == 200) return absl::UnavailableError("the server does not tell the length");
  // Who may not list is told 403 of what is not there.
  if (head.status != 404 && head.status != 403) return http_refusal(head);
  const absl::StatusOr<bool> is_folder = this->is_folder(path);
  if (is_folder.ok() && *is_folder) return HttpFound{true, {}};
  if (absl::IsPermissionDenied(is_folder.status()) || is_folder.ok()) {
    return head.status == 404 ? no_such_key(path) : http_refusal(head);
  }
  return is_folder.status();
}

absl::StatusOr<HttpFound> S3Tree::find(std::string_view path) {
  if (path.empty()) return HttpFound{true, {}};
  return files_.remember(path, ask(path));
}

absl::StatusOr<tree::OriginEntry> S3Tree::look_up(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpFound found, find(path));
  return files_.entry(path, found);
}

absl::StatusOr<tree::OriginFile> S3Tree::open(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpFound found, find(path));
  return files_.open(path, url_path(path), found);
}

absl::StatusOr<std::vector<tree::OriginEntry>> S3Tree::list(std::string_view path) {
  const std::string before = path.empty() ? "" : fmt::format("{}/", path);
  const std::string prefix = url_.prefix + before;
  std::vector<tree::OriginEntry> entries;
  std::vector<tree::OriginEntry> folders;
  absl::flat_hash_set<std::string> files;
  std::string next;
  for (size_t pages = 0; pages < kMostPages; ++pages) {
    BLOBCACHE_ASSIGN_OR_RETURN(const S3Page page, list_page(prefix, next, kMostOfPage));
    for (const S3Object& each : page.objects) {
      if (!each.key.starts_with(prefix)) continue;
      const std::string_view name = std::string_view(each.key).substr(prefix.size());
      if (!tree::check_name(name).ok() || !files.insert(std::string(name)).second) continue;
      const std::string whole = before + std::string(name);
      // So that it can be opened while the server is away, as what was looked up can.
      const absl::StatusOr<HttpFound> found =
          files_.remember(whole, HttpFound{false, each.version});
      entries.push_back(files_.entry(whole, *found));
    }
    for (const std::string& each : page.prefixes) {
      if (!each.starts_with(prefix) || !each.ends_with('/')) continue;
      const std::string_view name =
          std::string_view(each).substr(prefix.size(), each.size() - prefix.size() - 1);
      if (tree::check_name(name).ok()) folders.push_back(http_folder(name));
    }
    if (entries.size() + folders.size() > tree::kMaxOriginEntries) {
      return absl::ResourceExhaustedError("the bucket has more names there than can be listed");
    }
    if (!page.is_truncated || page.next.empty() || page.next == next) break;
    next = page.next;
  }
  for (tree::OriginEntry& each : folders) {
    if (!files.contains(each.name)) entries.push_back(std::move(each));
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto end = std::unique(entries.begin(), entries.end(),
                               [](const auto& a, const auto& b) { return a.name == b.name; });
  entries.erase(end, entries.end());
  return entries;
}

}  // namespace blobcache::net
