#include "net/impl/http_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "net/impl/http_auth.h"
#include "net/impl/http_index.h"
#include "net/impl/http_judge.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

/// A listing of as many names as are shown has less.
constexpr size_t kMostIndexBytes = size_t{16} << 20;

HttpSettings settings_of(const HttpOriginOptions& options, const base::HttpUrl& url) {
  HttpSettings settings;
  settings.server = url;
  settings.what = fmt::format("origin {} ({})", options.name, url.to_string());
  settings.connections = options.connections;
  settings.connect_timeout = options.connect_timeout;
  settings.request_timeout = options.request_timeout;
  settings.stall_timeout = options.stall_timeout;
  settings.rate_limit = options.rate_limit;
  settings.proxy = options.proxy;
  settings.tls_ca = options.tls_ca;
  settings.private_redirects = options.private_redirects;
  if (!options.token_file.empty() || !options.header_file.empty()) {
    settings.auth = std::make_shared<HttpFileAuth>(options.token_file, options.header_file);
  }
  settings.probe.is_head = true;
  settings.probe.path = url.path;
  return settings;
}

absl::Status no_such_path(std::string_view path) {
  return absl::NotFoundError(fmt::format("{}: the server has no such path", tree::printable(path)));
}

bool is_to_folder(const HttpHead& head) {
  return head.status >= 300 && head.status <= 399 && !head.location.empty();
}

}  // namespace

HttpTree::HttpTree(const HttpOriginOptions& options, const base::HttpUrl& url)
    : name_(options.name),
      url_(url),
      client_(std::make_shared<HttpClient>(settings_of(options, url))),
      files_(client_, fmt::format("http{0}{1}{0}{2}", '\0', options.name, url.to_string())) {}

HttpTree::~HttpTree() { client_->end(); }

std::string HttpTree::url_path(std::string_view path) const {
  return url_.path + base::escape_url(path, true);
}

std::string HttpTree::url_of(std::string_view path) { return url_.server() + url_path(path); }

HttpRequest HttpTree::head_request(std::string_view path) const {
  HttpRequest request;
  request.is_head = true;
  request.path = url_path(path);
  request.stops_at_folder = true;
  return request;
}

absl::StatusOr<HttpFound> HttpTree::find_by_get(std::string_view path) {
  HttpRequest request = head_request(path);
  request.is_head = false;
  request.headers.emplace_back("Range: bytes=0-0");
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpAnswer answer, client_->ask(std::move(request), 0));
  const HttpHead& head = answer.head;
  if (is_to_folder(head)) return HttpFound{true, {}};
  if (head.status == 404 || head.status == 410) return no_such_path(path);
  const bool is_empty = head.status == 416 && head.content_range && head.content_range->total == 0;
  std::optional<uint64_t> size;
  if (head.status == 200) size = head.content_length;
  if (head.status == 206 && head.content_range) size = head.content_range->total;
  if (is_empty) size = 0;
  if (!size && (head.status == 200 || head.status == 206)) {
    return absl::UnimplementedError("the server does not tell how long the file is");
  }
  if (!size) return http_refusal(head);
  return HttpFound{false, http_version(head, *size)};
}

absl::StatusOr<HttpFound> HttpTree::found_by(std::string_view path,
                                             const absl::StatusOr<HttpAnswer>& answer) {
  if (!answer.ok()) return answer.status();
  const HttpHead& head = answer->head;
  if (is_to_folder(head)) return HttpFound{true, {}};
  if (head.status == 404 || head.status == 410) return no_such_path(path);
  const bool is_refused = head.status == 400 || head.status == 405 || head.status == 501;
  if (is_refused && head.status != 400) refuses_head_ = true;
  // Some servers leave the length out of what has no body.
  if (is_refused || (head.status == 200 && !head.content_length)) return find_by_get(path);
  if (head.status != 200) return http_refusal(head);
  if (!head.content_encoding.empty() && head.content_encoding != "identity") {
    return absl::UnimplementedError("the server encodes the file, though it was asked not to");
  }
  return HttpFound{false, http_version(head, *head.content_length)};
}

absl::StatusOr<HttpFound> HttpTree::find(std::string_view path) {
  if (path.empty()) return HttpFound{true, {}};
  absl::StatusOr<HttpFound> found =
      refuses_head_ ? find_by_get(path) : found_by(path, client_->ask(head_request(path), 0));
  return files_.remember(path, std::move(found));
}

absl::StatusOr<tree::OriginEntry> HttpTree::look_up(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpFound found, find(path));
  return files_.entry(path, found);
}

absl::StatusOr<tree::OriginFile> HttpTree::open(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpFound found, find(path));
  return files_.open(path, url_path(path), found);
}

absl::StatusOr<std::vector<tree::OriginEntry>> HttpTree::list(std::string_view path) {
  HttpRequest request;
  request.path = path.empty() ? url_.path : url_path(path) + "/";
  request.headers.emplace_back("Accept: application/json, text/html");
  const std::string folder = request.path;
  BLOBCACHE_ASSIGN_OR_RETURN(const HttpAnswer answer,
                             client_->ask(std::move(request), kMostIndexBytes));
  const HttpHead& head = answer.head;
  if (head.status == 404 && !path.empty()) return no_such_path(path);
  const bool lists = head.status == 200 &&
                     (head.content_type == "application/json" || head.content_type == "text/html");
  const bool refuses = head.status == 403 || head.status == 404 || head.status == 405;
  if (!lists && head.status != 200 && !refuses) return http_refusal(head);
  if (!lists) {
    return absl::UnimplementedError(
        "the server does not list this folder; its files can be asked for by name");
  }
  absl::StatusOr<std::vector<HttpIndexEntry>> index =
      head.content_type == "text/html"
          ? parse_index_html(answer.body, folder, tree::kMaxOriginEntries)
          : parse_index_json(answer.body, tree::kMaxOriginEntries);
  if (!index.ok()) return index.status();
  const std::string before = path.empty() ? "" : fmt::format("{}/", path);
  std::vector<tree::OriginEntry> entries;
  std::vector<std::string> files;
  for (const HttpIndexEntry& each : *index) {
    const std::string whole = before + each.name;
    if (each.is_folder) {
      entries.push_back(http_folder(whole));
    } else {
      files.push_back(whole);
    }
  }
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<tree::OriginEntry> found, entries_of(path, files));
  std::move(found.begin(), found.end(), std::back_inserter(entries));
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

absl::StatusOr<std::vector<tree::OriginEntry>> HttpTree::entries_of(
    std::string_view path, const std::vector<std::string>& files) {
  std::vector<HttpRequest> requests;
  for (const std::string& file : files) requests.push_back(head_request(file));
  const std::vector<absl::StatusOr<HttpAnswer>> answers =
      refuses_head_ ? std::vector<absl::StatusOr<HttpAnswer>>(
                          files.size(), absl::UnimplementedError("HEAD is refused"))
                    : client_->ask_all(std::move(requests), 0);
  std::vector<tree::OriginEntry> entries;
  for (size_t i = 0; i < files.size(); ++i) {
    absl::StatusOr<HttpFound> found = absl::IsUnimplemented(answers[i].status())
                                          ? find_by_get(files[i])
                                          : found_by(files[i], answers[i]);
    found = files_.remember(files[i], std::move(found));
    if (absl::IsUnavailable(found.status()) || absl::IsCancelled(found.status())) {
      return base::annotate(found.status(),
                            fmt::format("{}: what it lists", path.empty() ? "/" : path));
    }
    // What is listed and cannot be had is not there.
    if (found.ok()) entries.push_back(files_.entry(files[i], *found));
  }
  return entries;
}

}  // namespace blobcache::net
