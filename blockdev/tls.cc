#include "blockdev/tls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <string_view>
#include <utility>

#include "base/hex.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "blockdev/impl/tls_context.h"

namespace blobcache::blockdev {
namespace {

namespace fs = std::filesystem;

/// A file of keys is a few lines.
constexpr off_t kMaxKeyFile = 1 << 20;
/// The least and the most bytes of a shared key: below 16 it can be guessed.
constexpr size_t kMinKey = 16;
constexpr size_t kMaxKey = 256;

absl::Status failed(const fs::path& file, std::string_view why) {
  return base::error(absl::StatusCode::kFailedPrecondition,
                     fmt::format("{}: {}", file.native(), why));
}

/// Answers for who would have to be asked at a terminal, which a daemon is not at.
int no_passphrase(char* /*into*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

/// The reason that OpenSSL has for its last failure; its queue is empty afterwards.
std::string last_error() {
  const unsigned long error = ::ERR_get_error();
  ::ERR_clear_error();
  if (ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE) {
    return "holds nothing in PEM that is wanted of it";
  }
  if (ERR_GET_LIB(error) == ERR_LIB_X509 && ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH) {
    return "is not the key of server-cert.pem";
  }
  const char* reason = ::ERR_reason_error_string(error);
  return reason == nullptr ? "not what it should be" : reason;
}

absl::Status check_readable(const fs::path& file) {
  const base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.valid() ? absl::OkStatus() : base::errno_error(errno, file.native());
}

/// No client that verifies it will come, which is better known before the first one does not.
void warn_if_expired(SSL_CTX* context, const fs::path& certificate) {
  const X509* const ours = ::SSL_CTX_get0_certificate(context);
  if (ours == nullptr) return;
  if (::X509_cmp_current_time(::X509_get0_notAfter(ours)) < 0) {
    spdlog::warn("nbd: {}: has expired", certificate.native());
  } else if (::X509_cmp_current_time(::X509_get0_notBefore(ours)) > 0) {
    spdlog::warn("nbd: {}: is not valid yet", certificate.native());
  }
}

/// Whoever reads the file may come in as any user.
absl::Status check_key_file(const fs::path& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return base::errno_error(errno, file.native());
  if (!S_ISREG(status.st_mode)) return failed(file, "is no file");
  if ((status.st_mode & S_IRWXO) != 0) return failed(file, "others may read it; chmod o= it");
  if (status.st_size > kMaxKeyFile) return failed(file, "is over 1 MiB");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<TlsContext>> load_tls(const TlsOptions& options) {
  if (options.mode == TlsMode::kOff) return std::shared_ptr<TlsContext>();
  return TlsContext::load(options);
}

TlsContext::TlsContext() : context_(::SSL_CTX_new(::TLS_server_method())) {}

TlsContext::~TlsContext() { ::SSL_CTX_free(context_); }

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::load(const TlsOptions& options) {
  if (options.certificates.empty() && options.psk_file.empty()) {
    return absl::InvalidArgumentError("TLS needs certificates, or a file of shared keys");
  }
  std::shared_ptr<TlsContext> loaded(new TlsContext());  // NOLINT: private constructor
  SSL_CTX* const context = loaded->context_;
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for TLS");
  ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // A client that hangs up without saying so has said all it had to: requests tell their length.
  // Connections live long; there is nothing to resume. The kernel encrypts where it can.
  ::SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET |
                                     SSL_OP_NO_RENEGOTIATION | SSL_OP_ENABLE_KTLS);
  ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
  if (!options.certificates.empty()) {
    BLOBCACHE_RETURN_IF_ERROR(loaded->use_certificates(options));
  }
  if (!options.psk_file.empty()) BLOBCACHE_RETURN_IF_ERROR(loaded->use_keys(options.psk_file));
  return loaded;
}

absl::Status TlsContext::use_certificates(const TlsOptions& options) {
  const fs::path certificate = options.certificates / "server-cert.pem";
  const fs::path key = options.certificates / "server-key.pem";
  const fs::path authority = options.certificates / "ca-cert.pem";
  BLOBCACHE_RETURN_IF_ERROR(check_readable(certificate));
  BLOBCACHE_RETURN_IF_ERROR(check_readable(key));
  ::ERR_clear_error();
  if (::SSL_CTX_use_certificate_chain_file(context_, certificate.c_str()) != 1) {
    return failed(certificate, last_error());
  }
  bool encrypted = false;
  ::SSL_CTX_set_default_passwd_cb(context_, no_passphrase);
  ::SSL_CTX_set_default_passwd_cb_userdata(context_, &encrypted);
  const bool taken = ::SSL_CTX_use_PrivateKey_file(context_, key.c_str(), SSL_FILETYPE_PEM) == 1;
  ::SSL_CTX_set_default_passwd_cb_userdata(context_, nullptr);
  if (encrypted) {
    return failed(key,
                  "is encrypted, and nobody can be asked for its passphrase; "
                  "openssl pkey -in KEY -out PLAIN takes that away");
  }
  if (!taken) return failed(key, last_error());
  warn_if_expired(context_, certificate);
  if (!options.verify_clients) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(check_readable(authority));
  if (::SSL_CTX_load_verify_locations(context_, authority.c_str(), nullptr) != 1) {
    return failed(authority, last_error());
  }
  // Clients learn whose certificates are taken, and choose one.
  ::SSL_CTX_set_client_CA_list(context_, ::SSL_load_client_CA_file(authority.c_str()));
  ::SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return absl::OkStatus();
}

absl::Status TlsContext::use_keys(const fs::path& file) {
  BLOBCACHE_RETURN_IF_ERROR(check_readable(file));
  BLOBCACHE_RETURN_IF_ERROR(check_key_file(file));
  std::ifstream lines(file);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    const size_t colon = line.find(':');
    if (colon == 0 || colon == std::string::npos) {
      return failed(file, fmt::format("line {} is not USER:HEX", number));
    }
    const std::string_view digits = std::string_view(line).substr(colon + 1);
    std::vector<uint8_t> key(digits.size() / 2);
    if (!base::from_hex(digits, absl::MakeSpan(key))) {
      return failed(file, fmt::format("line {}: the key is not in hexadecimal digits", number));
    }
    if (key.size() < kMinKey || key.size() > kMaxKey) {
      return failed(file, fmt::format("line {}: the key has {} bytes; {} to {} are needed", number,
                                      key.size(), kMinKey, kMaxKey));
    }
    keys_.insert_or_assign(line.substr(0, colon), std::move(key));
  }
  if (keys_.empty()) return failed(file, "has no keys");
  // In TLS 1.3 a shared key goes with SHA-256, so the suites that have it must be chosen first.
  ::SSL_CTX_set_options(context_, SSL_OP_CIPHER_SERVER_PREFERENCE);
  if (::SSL_CTX_set_ciphersuites(context_,
                                 "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                 "TLS_AES_256_GCM_SHA384") != 1) {
    return failed(file, last_error());
  }
  SSL_CTX_set_app_data(context_, this);
  ::SSL_CTX_set_psk_server_callback(context_, &TlsContext::find_key);
  return absl::OkStatus();
}

/// 0: there is no such user, and the handshake fails.
unsigned TlsContext::find_key(SSL* connection, const char* user, unsigned char* key,
                              unsigned room) {
  const auto* self =
      static_cast<const TlsContext*>(SSL_CTX_get_app_data(::SSL_get_SSL_CTX(connection)));
  const auto found = self->keys_.find(std::string_view(user == nullptr ? "" : user));
  if (found == self->keys_.end() || found->second.size() > room) return 0;
  std::copy(found->second.begin(), found->second.end(), key);
  return static_cast<unsigned>(found->second.size());
}

}  // namespace blobcache::blockdev
