#include "net/impl/credentials.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::net {
namespace {

constexpr std::string_view kBearer = "Bearer ";

absl::StatusOr<std::string> read_small_file(int fd, size_t max_bytes) {
  std::string text(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd, &text[size], text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error(errno, "read");
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > max_bytes) {
    return base::error(absl::StatusCode::kFailedPrecondition,
                       fmt::format("is over {} bytes", max_bytes));
  }
  text.resize(size);
  return text;
}

absl::StatusOr<base::UniqueFd> open_file(const std::string& path, const std::string& what) {
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return base::errno_error(errno, fmt::format("{} {}", what, path));
  return fd;
}

/// gRPC's C credentials as its C++ classes want them. The C++ ones cannot put a check of the call's
/// metadata on an unencrypted listener; the C ones can. Not thread-safe, as grpc::ServerCredentials
/// has it.
class CoreCredentials final : public grpc::ServerCredentials {
 public:
  explicit CoreCredentials(const TcpSecurity& security) : credentials_(make(security)) {}
  ~CoreCredentials() override {
    if (credentials_ != nullptr) grpc_server_credentials_release(credentials_);
  }
  CoreCredentials(const CoreCredentials&) = delete;
  CoreCredentials& operator=(const CoreCredentials&) = delete;

  [[nodiscard]] bool valid() const { return credentials_ != nullptr; }

  void require_token(const std::string& token) {
    grpc_auth_metadata_processor processor{};
    processor.process = &CoreCredentials::check_token;
    processor.destroy = [](void* state) {
      const std::unique_ptr<std::string> owned(static_cast<std::string*>(state));
    };
    processor.state = std::make_unique<std::string>(token).release();
    grpc_server_credentials_set_auth_metadata_processor(credentials_, processor);
  }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  /// Null when gRPC does not take them.
  static grpc_server_credentials* make(const TcpSecurity& security) {
    if (security.certificate.empty()) return grpc_insecure_server_credentials_create();
    grpc_ssl_pem_key_cert_pair pair{security.key.c_str(), security.certificate.c_str()};
    const bool mutual = !security.client_ca.empty();
    return grpc_ssl_server_credentials_create_ex(
        mutual ? security.client_ca.c_str() : nullptr, &pair, 1,
        mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
               : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        nullptr);
  }

  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static std::string_view view(const grpc_slice& slice) {
    return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
  }

  static void check_token(void* state, grpc_auth_context* /*context*/,
                          const grpc_metadata* metadata, size_t count,
                          grpc_process_auth_metadata_done_cb done, void* user_data) {
    const std::string& token = *static_cast<const std::string*>(state);
    const char* why = "this listener needs a token: send \"authorization: Bearer <token>\"";
    for (size_t i = 0; i < count; ++i) {
      if (view(metadata[i].key) != "authorization") continue;
      const std::string_view value = view(metadata[i].value);
      if (value.starts_with(kBearer) &&
          same_secret(token, std::string(value.substr(kBearer.size())))) {
        // Consumed: nothing behind this point sees the secret.
        done(user_data, &metadata[i], 1, nullptr, 0, GRPC_STATUS_OK, nullptr);
        return;
      }
      why = "the token is not the one that this listener wants";
    }
    done(user_data, nullptr, 0, nullptr, 0, GRPC_STATUS_UNAUTHENTICATED, why);
  }

  grpc_server_credentials* const credentials_;
};

/// gRPC looks at PEM texts only when a connection comes in; this says at once what is wrong.
absl::Status check_pair(const TcpSecurity& security) {
  const auto memory = [](const std::string& text) {
    return std::unique_ptr<BIO, decltype(&BIO_free)>(
        BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
  };
  const auto certificate_of = [&](const std::string& text) {
    return std::unique_ptr<X509, decltype(&X509_free)>(
        PEM_read_bio_X509(memory(text).get(), nullptr, nullptr, nullptr), &X509_free);
  };
  const auto certificate = certificate_of(security.certificate);
  if (certificate == nullptr) {
    return absl::InvalidArgumentError("the TLS certificate is not a PEM certificate");
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(memory(security.key).get(), nullptr, nullptr, nullptr),
      &EVP_PKEY_free);
  if (key == nullptr) return absl::InvalidArgumentError("the TLS key is not a PEM private key");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return absl::InvalidArgumentError("the TLS key is not the certificate's");
  }
  if (!security.client_ca.empty() && certificate_of(security.client_ca) == nullptr) {
    return absl::InvalidArgumentError("the TLS client CA is not a PEM certificate");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> read_token(const std::string& path) {
  const std::string what = fmt::format("token file {}", path);
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd, open_file(path, "token file"));
  struct stat info{};
  if (fstat(fd.get(), &info) != 0) return base::errno_error(errno, what);
  absl::StatusOr<std::string> text = read_small_file(fd.get(), 4096);
  if (!text.ok()) return base::annotate(text.status(), what);
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text->find_first_not_of(kSpace);
  if (begin == std::string::npos) {
    return base::error(absl::StatusCode::kFailedPrecondition, fmt::format("{}: is empty", what));
  }
  std::string token = text->substr(begin, text->find_last_not_of(kSpace) + 1 - begin);
  if (!std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7F; })) {
    return base::error(absl::StatusCode::kFailedPrecondition,
                       fmt::format("{}: must hold one word of printable ASCII", what));
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    spdlog::warn("{}: others may read or change it; chmod 600 it", what);
  }
  return token;
}

absl::StatusOr<std::string> read_pem(const std::string& path, const char* what) {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd, open_file(path, what));
  absl::StatusOr<std::string> text = read_small_file(fd.get(), size_t{1} << 20);
  if (!text.ok()) return base::annotate(text.status(), fmt::format("{} {}", what, path));
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> tcp_credentials(
    const TcpSecurity& security) {
  if (!security.certificate.empty()) BLOBCACHE_RETURN_IF_ERROR(check_pair(security));
  auto credentials = std::make_shared<CoreCredentials>(security);
  if (!credentials->valid())
    return absl::InvalidArgumentError("gRPC does not take the TLS certificate");
  if (!security.token.empty()) credentials->require_token(security.token);
  return credentials;
}

bool same_secret(const std::string& secret, const std::string& given) {
  // Comparing digests hides where they differ, and the length of the secret too.
  const auto digest = [](const std::string& text) {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> bytes{};
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), bytes.data());
    return bytes;
  };
  const auto a = digest(secret);
  const auto b = digest(given);
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace blobcache::net
