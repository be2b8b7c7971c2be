#pragma once

#include <openssl/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "blockdev/tls.h"

namespace blobcache::blockdev {

/// A server's keys, ready for connections. Immutable once loaded, so any thread may use it.
class TlsContext {
 public:
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  [[nodiscard]] static absl::StatusOr<std::shared_ptr<TlsContext>> load(const TlsOptions& options);

  [[nodiscard]] SSL_CTX* get() const { return context_; }

 private:
  TlsContext();
  [[nodiscard]] absl::Status use_certificates(const TlsOptions& options);
  [[nodiscard]] absl::Status use_keys(const std::filesystem::path& file);
  static unsigned find_key(SSL* connection, const char* user, unsigned char* key, unsigned room);

  SSL_CTX* context_ = nullptr;
  std::map<std::string, std::vector<uint8_t>, std::less<>> keys_;  // by user
};

}  // namespace blobcache::blockdev
