#include "net/impl/s3_credentials.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::net {

namespace {

/// Of no bytes, which is what our requests have for a body.
constexpr std::string_view kHashOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::string_view without_blanks_around(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// "" where nothing says where it is.
std::string shared_file() {
  std::string path = environment("AWS_SHARED_CREDENTIALS_FILE");
  if (!path.empty()) return path;
  const std::string home = environment("HOME");
  return home.empty() ? "" : home + "/.aws/credentials";
}

absl::Status check_keys(const S3Keys& keys) {
  if (keys.key_id.empty() || keys.secret_key.empty()) {
    return absl::InvalidArgumentError("the key's id and the secret key have to be there, both");
  }
  if (!is_word(keys.key_id) || !is_word(keys.secret_key) || !is_word(keys.session_token)) {
    return absl::InvalidArgumentError("a key has no blanks and no bytes that do not print");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<S3Keys> parse_credentials(std::string_view text, std::string_view profile) {
  S3Keys keys;
  bool is_found = false;
  bool is_ours = false;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = without_blanks_around(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
    if (line.empty() || line.starts_with('#') || line.starts_with(';')) continue;
    const auto bad = [number](std::string_view why) {
      return base::error(absl::StatusCode::kInvalidArgument,
                         fmt::format("line {}: {}", number, why));
    };
    if (line.starts_with('[')) {
      if (!line.ends_with(']')) return bad("a bracket is open");
      is_ours = without_blanks_around(line.substr(1, line.size() - 2)) == profile;
      is_found = is_found || is_ours;
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) return bad("must be as in name = value");
    if (!is_ours) continue;
    const std::string_view name = without_blanks_around(line.substr(0, equals));
    const std::string value(without_blanks_around(line.substr(equals + 1)));
    if (name == "aws_access_key_id") keys.key_id = value;
    if (name == "aws_secret_access_key") keys.secret_key = value;
    if (name == "aws_session_token") keys.session_token = value;
  }
  if (!is_found) {
    return base::error(absl::StatusCode::kNotFound,
                       fmt::format("there is no section [{}]", profile));
  }
  BLOBCACHE_RETURN_IF_ERROR(check_keys(keys));
  return keys;
}

S3Auth::S3Auth(std::string region, std::string file, std::string profile)
    : region_(std::move(region)), file_(std::move(file)), profile_(std::move(profile)) {}

absl::StatusOr<std::optional<S3Keys>> S3Auth::read() const {
  std::string file = file_;
  if (file.empty()) {
    S3Keys keys{environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
                environment("AWS_SESSION_TOKEN")};
    if (!keys.key_id.empty() || !keys.secret_key.empty()) {
      const absl::Status whole = check_keys(keys);
      if (!whole.ok()) {
        return base::error(absl::StatusCode::kUnavailable,
                           fmt::format("AWS_ACCESS_KEY_ID: {}", base::message(whole)));
      }
      return std::optional(std::move(keys));
    }
    file = shared_file();
    struct stat attributes{};
    if (file.empty() || (::stat(file.c_str(), &attributes) != 0 && errno == ENOENT)) {
      return std::optional<S3Keys>();
    }
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::string text, read_secret_file(file, "credentials_file"));
  absl::StatusOr<S3Keys> keys = parse_credentials(text, profile_);
  if (keys.ok()) return std::optional(*std::move(keys));
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("credentials_file: {}: {}", file, base::message(keys.status())));
}

absl::StatusOr<HttpCredentials> S3Auth::credentials() {
  const absl::Time now = absl::Now();
  if (now - read_at_ > kAge) {
    BLOBCACHE_ASSIGN_OR_RETURN(keys_, read());
    read_at_ = now;
  }
  HttpCredentials credentials;
  if (!keys_) return credentials;
  // S3 wants the hash as a header, which libcurl signs and does not add by itself.
  credentials.headers.push_back(fmt::format("x-amz-content-sha256: {}", kHashOfNothing));
  if (!keys_->session_token.empty()) {
    credentials.headers.push_back("x-amz-security-token: " + keys_->session_token);
  }
  credentials.signature = fmt::format("aws:amz:{}:s3", region_);
  credentials.key_id = keys_->key_id;
  credentials.secret_key = keys_->secret_key;
  return credentials;
}

}  // namespace blobcache::net
