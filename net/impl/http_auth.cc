#include "net/impl/http_auth.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::net {

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_header_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

bool is_header_name(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [kMarks](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           kMarks.find(c) != std::string_view::npos;
  });
}

bool is_our_header(std::string_view name) {
  std::string lower;
  for (const char c : name) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr std::array<std::string_view, 8> kOurs = {
      "host",     "range",    "content-length",      "transfer-encoding",
      "if-match", "if-range", "if-unmodified-since", "accept-encoding"};
  return std::find(kOurs.begin(), kOurs.end(), lower) != kOurs.end();
}

}  // namespace

absl::StatusOr<std::string> parse_token(std::string_view text) {
  const std::string_view token = trimmed(text);
  if (token.empty()) return absl::InvalidArgumentError("it is empty");
  for (const char c : token) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f) {
      return absl::InvalidArgumentError("a token has no blanks, lines or bytes that do not print");
    }
  }
  return std::string(token);
}

absl::StatusOr<std::vector<std::string>> parse_header_lines(std::string_view text) {
  constexpr size_t kMostLines = 64;
  std::vector<std::string> lines;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = trimmed(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
    if (line.empty() || line.starts_with('#')) continue;
    const auto bad = [number](std::string_view why) {
      return base::error(absl::StatusCode::kInvalidArgument,
                         fmt::format("line {}: {}", number, why));
    };
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_header_name(line.substr(0, colon))) {
      return bad("must be a header, as in Name: value");
    }
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (value.empty() || !is_header_value(value))
      return bad("the header has no value, or one that cannot be");
    if (is_our_header(line.substr(0, colon))) return bad("this header is for the daemon to set");
    if (lines.size() == kMostLines) return bad("too many headers");
    lines.push_back(fmt::format("{}: {}", line.substr(0, colon), value));
  }
  return lines;
}

absl::StatusOr<std::string> read_secret_file(const std::string& path, std::string_view what) {
  const auto failed = [&](std::string_view why) {
    return base::error(absl::StatusCode::kUnavailable, fmt::format("{}: {}: {}", what, path, why));
  };
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return failed(std::generic_category().message(errno));
  struct stat attributes{};
  if (::fstat(file.get(), &attributes) != 0 || !S_ISREG(attributes.st_mode)) {
    return failed("is no regular file");
  }
  std::string text(HttpFileAuth::kMostBytes + 1, '\0');
  const ssize_t length = ::read(file.get(), text.data(), text.size());
  if (length < 0) return failed(std::generic_category().message(errno));
  if (static_cast<size_t>(length) > HttpFileAuth::kMostBytes)
    return failed("is larger than 64 KiB");
  text.resize(static_cast<size_t>(length));
  return text;
}

HttpFileAuth::HttpFileAuth(std::string token_file, std::string header_file)
    : token_file_(std::move(token_file)), header_file_(std::move(header_file)) {}

absl::StatusOr<HttpCredentials> HttpFileAuth::credentials() {
  HttpCredentials credentials;
  std::vector<std::string>& lines = credentials.headers;
  const auto unusable = [](std::string_view what, const std::string& path,
                           const absl::Status& why) {
    return base::error(absl::StatusCode::kUnavailable,
                       fmt::format("{}: {}: {}", what, path, base::message(why)));
  };
  if (!header_file_.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::string text,
                               read_secret_file(header_file_, "header_file"));
    absl::StatusOr<std::vector<std::string>> read = parse_header_lines(text);
    if (!read.ok()) return unusable("header_file", header_file_, read.status());
    lines = *std::move(read);
  }
  if (!token_file_.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::string text, read_secret_file(token_file_, "token_file"));
    const absl::StatusOr<std::string> token = parse_token(text);
    if (!token.ok()) return unusable("token_file", token_file_, token.status());
    lines.push_back("Authorization: Bearer " + *token);
  }
  return credentials;
}

}  // namespace blobcache::net
