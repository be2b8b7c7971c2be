#include "net/http_origin.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/http_url.h"
#include "net/impl/http_client.h"
#include "net/impl/http_files.h"
#include "net/s3_origin.h"
#include "store/page/source.h"
#include "store/tree/origin.h"
#include "test/eventually.h"
#include "test/net/http_server.h"

namespace blobcache::net {
namespace {

using Kind = tree::OriginEntry::Kind;

std::string content_of(size_t bytes) {
  std::string content(bytes, '\0');
  uint32_t state = 1;
  for (char& c : content) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return content;
}

/// What a server that does all right answers.
TestReply served(const TestRequest& request, const std::string& content,
                 const std::string& validators) {
  const std::string range = request.header("range");
  if (range.empty()) return test_reply(200, validators, content);
  const size_t dash = range.find('-');
  const size_t first = std::stoull(range.substr(6, dash - 6));
  const size_t last = std::min<size_t>(std::stoull(range.substr(dash + 1)), content.size() - 1);
  return test_reply(
      206,
      fmt::format("Content-Range: bytes {}-{}/{}\r\n{}", first, last, content.size(), validators),
      content.substr(first, last - first + 1));
}

HttpOriginOptions options_for(const HttpServer& server) {
  HttpOriginOptions options;
  options.name = "web";
  options.url = server.url();
  options.request_timeout = absl::Seconds(20);
  return options;
}

std::shared_ptr<tree::Origin> origin_of(const HttpOriginOptions& options) {
  absl::StatusOr<std::shared_ptr<tree::Origin>> made = make_http_origin(options);
  REQUIRE_MESSAGE(made.ok(), made.status().ToString());
  return *std::move(made);
}

/// A fetch and what became of it.
struct Fetched {
  explicit Fetched(size_t bytes) : buffer(bytes) {}
  std::vector<std::byte> buffer;
  std::atomic<int> calls = 0;
  absl::Notification done;
  absl::Status status;
  std::unique_ptr<page::Source::Fetch> fetch;

  static std::shared_ptr<Fetched> start(page::Source& source, uint64_t offset, size_t bytes,
                                        bool is_ahead = false) {
    auto fetched = std::make_shared<Fetched>(bytes);
    auto tell = [fetched = fetched.get()](const absl::Status& status) {
      if (++fetched->calls > 1) return;
      fetched->status = status;
      fetched->done.Notify();
    };
    const auto into = absl::MakeSpan(fetched->buffer);
    fetched->fetch = is_ahead ? source.fetch_ahead(offset, into, std::move(tell))
                              : source.fetch(offset, into, std::move(tell));
    return fetched;
  }
  [[nodiscard]] absl::Status wait() {
    REQUIRE(done.WaitForNotificationWithTimeout(absl::Seconds(30)));
    return status;
  }
  [[nodiscard]] bool has(const std::string& content, uint64_t offset) const {
    return std::string_view(reinterpret_cast<const char*>(buffer.data()), buffer.size()) ==
           std::string_view(content).substr(offset, buffer.size());
  }
};

tree::OriginFile opened(tree::Origin& origin, std::string_view path) {
  absl::StatusOr<tree::OriginFile> file = origin.open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().ToString());
  return *std::move(file);
}

TEST_CASE("http origin: a strong version lasts, a weak one as long as it is open") {
  const std::string content = content_of(10000);
  std::atomic<int> version = 1;
  HttpServer server([&](const TestRequest& request) {
    const bool is_strong = request.target == "/strong";
    if (request.target == "/none") return test_reply(404, "", "");
    if (request.target == "/dir") return test_reply(301, "Location: /dir/\r\n", "");
    return served(request, content,
                  fmt::format("ETag: {}\"{}\"\r\n", is_strong ? "" : "W/", version.load()));
  });
  const std::shared_ptr<tree::Origin> origin = origin_of(options_for(server));
  const tree::OriginEntry strong = origin->look_up("strong").value();
  CHECK(strong.kind == Kind::kFile);
  CHECK(strong.size_bytes == content.size());
  REQUIRE(strong.version);
  tree::OriginFile file = opened(*origin, "strong");
  CHECK(file.lasting);
  CHECK(file.version.key == *strong.version);
  CHECK(!origin->look_up("weak").value().version);
  tree::OriginFile weak = opened(*origin, "weak");
  CHECK(!weak.lasting);
  CHECK(opened(*origin, "weak").version.key == weak.version.key);
  CHECK(absl::IsNotFound(origin->look_up("none").status()));
  CHECK(origin->look_up("dir").value().kind == Kind::kDirectory);
  CHECK(origin->look_up("").value().kind == Kind::kDirectory);
  CHECK(absl::IsFailedPrecondition(origin->open("dir").status()));
  version = 2;
  CHECK(*origin->look_up("strong").value().version != *strong.version);
  CHECK(opened(*origin, "weak").version.key != weak.version.key);
  const page::ObjectKey before = weak.version.key;
  weak = opened(*origin, "weak");
  weak = {};
  CHECK(opened(*origin, "weak").version.key != before);
}

TEST_CASE("http origin: what is adjacent and waits is one request; a short reply is gone on with") {
  const std::string content = content_of(1 << 20);
  absl::Notification go;
  std::atomic<bool> is_short = true;
  HttpServer server([&](const TestRequest& request) {
    if (request.method == "GET") go.WaitForNotification();
    TestRequest asked = request;
    if (request.header("range") == "bytes=262144-1048575" && is_short.exchange(false)) {
      asked.headers["range"] = "bytes=262144-300000";
    }
    return served(asked, content, "ETag: \"a\"\r\n");
  });
  HttpOriginOptions options = options_for(server);
  options.connections = 1;
  const std::shared_ptr<tree::Origin> origin = origin_of(options);
  const tree::OriginFile file = opened(*origin, "f");
  std::vector<std::shared_ptr<Fetched>> all;
  constexpr size_t kExtent = 262144;
  for (size_t i = 0; i < 4; ++i) {
    all.push_back(Fetched::start(*file.version.source, i * kExtent, kExtent));
    if (i == 0) REQUIRE(test::eventually([&] { return server.count("GET") == 1; }));
  }
  // All four wait in the client before the first is answered.
  const std::shared_ptr<Fetched> last = Fetched::start(*file.version.source, 0, 4096);
  last->fetch->cancel();
  CHECK(absl::IsCancelled(last->wait()));
  go.Notify();
  for (size_t i = 0; i < 4; ++i) {
    CHECK(all[i]->wait().ok());
    CHECK(all[i]->has(content, i * kExtent));
  }
  std::vector<std::string> ranges;
  for (const TestRequest& each : server.requests()) {
    if (each.method == "GET") ranges.push_back(each.header("range"));
    if (each.method == "GET") CHECK(each.header("if-match") == "\"a\"");
    CHECK(each.header("accept-encoding") == "identity");
  }
  CHECK(ranges ==
        std::vector<std::string>{"bytes=0-262143", "bytes=262144-1048575", "bytes=300001-1048575"});
  CHECK(origin->health().bytes_read == content.size());
}

TEST_CASE("http origin: what nobody waits for leaves a connection to those who do") {
  const std::string content = content_of(1 << 20);
  absl::Notification go;
  HttpServer server([&](const TestRequest& request) {
    if (request.method == "GET" && !request.header("range").starts_with("bytes=9")) {
      go.WaitForNotification();
    }
    return served(request, content, "ETag: \"a\"\r\n");
  });
  HttpOriginOptions options = options_for(server);
  options.connections = 2;
  const std::shared_ptr<tree::Origin> origin = origin_of(options);
  const tree::OriginFile file = opened(*origin, "f");
  std::vector<std::shared_ptr<Fetched>> ahead;
  for (const uint64_t offset : {0U, 8192U, 16384U, 24576U}) {  // not adjacent
    ahead.push_back(Fetched::start(*file.version.source, offset, 4096, /*is_ahead=*/true));
  }
  REQUIRE(test::eventually([&] { return server.count("GET") == 1; }));
  // It goes past all of them, and is answered while the first of them is not.
  const auto waited = Fetched::start(*file.version.source, 90112, 4096);
  CHECK(waited->wait().ok());
  CHECK(waited->has(content, 90112));
  CHECK(server.count("GET") == 2);
  // Somebody has come for the last one: it is the next.
  ahead.back()->fetch->hasten();
  CHECK(test::eventually([&] { return server.count("GET") == 3; }));
  CHECK(server.requests().back().header("range") == "bytes=24576-28671");
  go.Notify();
  for (const auto& each : ahead) CHECK(each->wait().ok());
}

TEST_CASE("http origin: who cancels is told so once, and the others get their bytes") {
  const std::string content = content_of(1 << 20);
  absl::Notification go;
  HttpServer server([&](const TestRequest& request) {
    if (request.method == "GET") go.WaitForNotification();
    return served(request, content, "ETag: \"a\"\r\n");
  });
  const std::shared_ptr<tree::Origin> origin = origin_of(options_for(server));
  const tree::OriginFile file = opened(*origin, "f");
  const auto one = Fetched::start(*file.version.source, 0, 4096);
  const auto two = Fetched::start(*file.version.source, 4096, 4096);
  REQUIRE(test::eventually([&] { return server.count("GET") >= 1; }));
  one->fetch->cancel();
  CHECK(absl::IsCancelled(one->wait()));
  go.Notify();
  CHECK(two->wait().ok());
  CHECK(two->has(content, 4096));
  one->fetch->cancel();
  two->fetch->cancel();
  const auto three = Fetched::start(*file.version.source, 8192, 4096);
  CHECK(three->wait().ok());
  CHECK(one->calls == 1);
  CHECK(two->calls == 1);
}

TEST_CASE("http origin: the end of the daemon, and of the origin") {
  const std::string content = content_of(100000);
  absl::Notification go;
  HttpServer server([&](const TestRequest& request) {
    if (request.method == "GET" || request.target == "/hangs") go.WaitForNotification();
    return served(request, content, "ETag: \"a\"\r\n");
  });
  std::shared_ptr<tree::Origin> origin = origin_of(options_for(server));
  const tree::OriginFile file = opened(*origin, "f");
  absl::Status looked;
  std::thread asker([&] { looked = origin->look_up("hangs").status(); });
  const auto fetched = Fetched::start(*file.version.source, 0, 4096);
  REQUIRE(test::eventually([&] { return server.requests().size() >= 3; }));
  const absl::Time before = absl::Now();
  origin->stop();
  asker.join();
  CHECK(absl::IsCancelled(looked));
  CHECK(absl::IsCancelled(origin->look_up("f").status()));
  CHECK(absl::IsUnavailable(fetched->wait()));
  CHECK(absl::Now() - before < absl::Seconds(10));
  origin.reset();
  CHECK(absl::IsUnavailable(Fetched::start(*file.version.source, 0, 4096)->wait()));
  go.Notify();

  // Without a warning.
  std::shared_ptr<tree::Origin> other = origin_of(options_for(server));
  const tree::OriginFile held = opened(*other, "f");
  other.reset();
  CHECK(absl::IsUnavailable(Fetched::start(*held.version.source, 0, 4096)->wait()));
}

TEST_CASE("http origin: what was seen is told while the server is away") {
  const std::string content = content_of(5000);
  HttpServer server([&](const TestRequest& request) {
    return served(request, content,
                  request.target == "/weak" ? "" : fmt::format("ETag: \"{}\"\r\n", "a"));
  });
  HttpOriginOptions options = options_for(server);
  options.request_timeout = absl::Milliseconds(300);
  const std::shared_ptr<tree::Origin> origin = origin_of(options);
  const tree::OriginFile seen = opened(*origin, "seen");
  CHECK(origin->look_up("weak").ok());
  CHECK(origin->health().reachable);
  server.go_away();
  CHECK(opened(*origin, "seen").version.key == seen.version.key);
  CHECK(absl::IsUnavailable(origin->look_up("weak").status()));
  CHECK(absl::IsUnavailable(origin->look_up("unseen").status()));
  CHECK(!origin->health().reachable);
  CHECK(!origin->health().trouble.empty());
  // Given up by now, or soon: then at once.
  REQUIRE(test::eventually([&] {
    const absl::Status status = origin->look_up("unseen").status();
    return status.message().find("given up") != std::string::npos;
  }));
  CHECK(absl::IsUnavailable(Fetched::start(*seen.version.source, 0, 4096)->wait()));
  CHECK(opened(*origin, "seen").version.key == seen.version.key);
}

TEST_CASE("s3 origin: pages of a listing, signed; an old version is read on by its id") {
  const std::string content = content_of(8192);
  std::atomic<bool> is_replaced = false;
  const auto listing = [](std::string_view inside) {
    return test_reply(200, "", fmt::format("<ListBucketResult>{}</ListBucketResult>", inside));
  };
  HttpServer server([&](const TestRequest& request) {
    const std::string& target = request.target;
    if (target.find("continuation-token=more%2B") != std::string::npos) {
      return listing(
          "<Contents><Key>p/b</Key><ETag>\"b\"</ETag><Size>2</Size></Contents>"
          "<CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes>"
          "<CommonPrefixes><Prefix>p/dir/</Prefix></CommonPrefixes>");
    }
    if (target.find("list-type=2") != std::string::npos) {
      return listing(
          "<IsTruncated>true</IsTruncated><NextContinuationToken>more+</NextContinuationToken>"
          "<Contents><Key>p/a</Key><ETag>\"v1\"</ETag><Size>8192</Size></Contents>"
          "<Contents><Key>p/</Key><ETag>\"x\"</ETag><Size>0</Size></Contents>"
          "<Contents><Key>q/other</Key><ETag>\"x\"</ETag><Size>0</Size></Contents>"
          "<Contents><Key>p/x//y</Key><ETag>\"x\"</ETag><Size>0</Size></Contents>");
    }
    const bool is_old = target.find("versionId=id%2F1") != std::string::npos;
    if (is_replaced && !is_old) return test_reply(412, "", "");
    return served(request, content,
                  "ETag: \"v1\"\r\nx-amz-version-id: id/1\r\nContent-Encoding: aws-chunked\r\n");
  });
  ::setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
  ::setenv("AWS_SECRET_ACCESS_KEY", "sesame", 1);
  ::setenv("AWS_SESSION_TOKEN", "token==", 1);
  S3OriginOptions options;
  options.name = "s3";
  options.url = "s3://bucket/p/";
  options.endpoint = server.url();
  options.path_style = true;
  absl::StatusOr<std::shared_ptr<tree::Origin>> origin = make_s3_origin(options);
  REQUIRE(origin.ok());
  const std::vector<tree::OriginEntry> entries = (*origin)->list("").value();
  REQUIRE(entries.size() == 3);
  CHECK(entries[0].name == "a");
  CHECK(entries[0].kind == Kind::kFile);
  CHECK(entries[1].name == "b");
  CHECK(entries[2].name == "dir");
  CHECK(entries[2].kind == Kind::kDirectory);
  const tree::OriginEntry looked = (*origin)->look_up("a").value();
  CHECK(looked.version == entries[0].version);
  CHECK(looked.version.has_value());
  const tree::OriginFile file = opened(**origin, "a");
  CHECK(file.version.key == *looked.version);
  is_replaced = true;
  const auto fetched = Fetched::start(*file.version.source, 4096, 4096);
  CHECK(fetched->wait().ok());
  CHECK(fetched->has(content, 4096));
  for (const TestRequest& each : server.requests()) {
    const std::string authorization = each.header("authorization");
    CHECK(authorization.find("AWS4-HMAC-SHA256 Credential=AKID/") == 0);
    CHECK(authorization.find("x-amz-content-sha256;x-amz-date;x-amz-security-token") !=
          std::string::npos);
    CHECK(authorization.find("sesame") == std::string::npos);
    CHECK(each.header("accept-encoding").empty());
    CHECK(each.header("x-amz-security-token") == "token==");
  }
  CHECK((*origin)->url_of("a b") == "s3://bucket/p/a%20b");
}

TEST_CASE("http origin: to wait behind others that get on is no reason to fail; nothing is") {
  const std::string content = content_of(1 << 20);
  std::atomic<bool> is_slow = true;
  absl::Notification go;
  HttpServer server([&](const TestRequest& request) {
    if (request.method == "GET" && is_slow) absl::SleepFor(absl::Milliseconds(300));
    if (request.method == "GET" && !is_slow) go.WaitForNotification();
    return served(request, content, "ETag: \"a\"\r\n");
  });
  HttpOriginOptions options = options_for(server);
  options.connections = 1;
  options.request_timeout = absl::Seconds(1);
  const std::shared_ptr<tree::Origin> origin = origin_of(options);
  const tree::OriginFile file = opened(*origin, "f");
  const auto start_all = [&] {
    std::vector<std::shared_ptr<Fetched>> all;
    // Not adjacent, so each is a request.
    for (size_t i = 0; i < 7; ++i) {
      all.push_back(Fetched::start(*file.version.source, i * 65536, 4096));
    }
    return all;
  };
  const auto slow = start_all();
  for (size_t i = 0; i < slow.size(); ++i) {
    CHECK(slow[i]->wait().ok());
    CHECK(slow[i]->has(content, i * 65536));
  }
  is_slow = false;
  const absl::Time before = absl::Now();
  for (const auto& each : start_all()) CHECK(absl::IsUnavailable(each->wait()));
  CHECK(absl::Now() - before < absl::Seconds(20));
  go.Notify();
}

TEST_CASE("http origin: a proxy is asked for everything, and never the host itself") {
  const std::string content = content_of(5000);
  HttpServer proxy(
      [&](const TestRequest& request) { return served(request, content, "ETag: \"a\"\r\n"); });
  HttpOriginOptions options = options_for(proxy);
  options.url = "http://nowhere.invalid/folder/";
  options.proxy = proxy.url();
  const std::shared_ptr<tree::Origin> origin = origin_of(options);
  const tree::OriginFile file = opened(*origin, "f");
  const auto fetched = Fetched::start(*file.version.source, 0, 4096);
  CHECK(fetched->wait().ok());
  CHECK(fetched->has(content, 0));
  for (const TestRequest& each : proxy.requests()) {
    CHECK(each.target == "http://nowhere.invalid/folder/f");
  }
}

TEST_CASE("http files: what is remembered is bounded, and the last of it stays") {
  HttpSettings settings;
  settings.server = base::parse_http_url("http://127.0.0.1:1/").value();
  settings.request_timeout = absl::Seconds(1);
  const auto client = std::make_shared<HttpClient>(settings);
  HttpFiles files(client, "place");
  const absl::StatusOr<HttpFound> away = absl::UnavailableError("away");
  const auto path = [](size_t i) { return fmt::format("{:04000}", i); };
  const size_t most = HttpFiles::kMostRemembered / 8000 + 10;
  for (size_t i = 0; i < most; ++i) {
    CHECK(files.remember(path(i), HttpFound{false, {i, "\"a\"", "", ""}}).ok());
  }
  CHECK(absl::IsUnavailable(files.remember(path(0), away).status()));
  CHECK(files.remember(path(most - 1), away).value().version.size_bytes == most - 1);
  // What is gone, or has become weak, is not told any more.
  CHECK(!files.remember(path(most - 1), absl::NotFoundError("gone")).ok());
  CHECK(!files.remember(path(most - 1), away).ok());
  CHECK(files.remember(path(most - 2), HttpFound{false, {1, "W/\"a\"", "", ""}}).ok());
  CHECK(!files.remember(path(most - 2), away).ok());
  CHECK(files.remember("folder", HttpFound{true, {}}).ok());
  CHECK(files.remember("folder", away).value().is_folder);
  client->end();
}

TEST_CASE("http origin: options that cannot be") {
  const auto refused = [](const std::function<void(HttpOriginOptions&)>& change) {
    HttpOriginOptions options;
    options.name = "web";
    options.url = "http://h/";
    change(options);
    return absl::IsInvalidArgument(make_http_origin(options).status());
  };
  CHECK(!refused([](HttpOriginOptions& /*options*/) {}));
  CHECK(refused([](HttpOriginOptions& options) { options.name = "a/b"; }));
  CHECK(refused([](HttpOriginOptions& options) { options.url = "http://me:sesame@h/"; }));
  CHECK(refused([](HttpOriginOptions& options) { options.connections = 0; }));
  CHECK(refused([](HttpOriginOptions& options) { options.connections = 17; }));
  CHECK(refused([](HttpOriginOptions& options) { options.stall_timeout = absl::ZeroDuration(); }));
  CHECK(refused([](HttpOriginOptions& options) { options.token_file = "/token"; }));
}

}  // namespace
}  // namespace blobcache::net
