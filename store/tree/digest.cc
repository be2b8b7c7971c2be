#include "store/tree/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <new>

#include "base/hex.h"

namespace blobcache::tree {
namespace {

constexpr std::string_view kPrefix = "sha256:";

/// OpenSSL's digest calls fail for want of memory and for misuse only: neither leaves a way to go
/// on.
void must(bool done) {
  if (!done) throw std::bad_alloc();
}

}  // namespace

struct Sha256::Context {
  Context() : evp(EVP_MD_CTX_new()) { must(evp != nullptr); }
  ~Context() { EVP_MD_CTX_free(evp); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  EVP_MD_CTX* evp;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  must(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::update(absl::Span<const std::byte> bytes) {
  must(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

page::ObjectKey Sha256::finish() {
  page::ObjectKey key;
  must(EVP_DigestFinal_ex(context_->evp, key.bytes.data(), nullptr) == 1);
  return key;
}

std::string format_digest(const page::ObjectKey& key) {
  return fmt::format("{}{}", kPrefix, key.hex());
}

absl::StatusOr<page::ObjectKey> parse_digest(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with(kPrefix)) digits.remove_prefix(kPrefix.size());
  page::ObjectKey key;
  if (base::from_hex(digits, absl::MakeSpan(key.bytes))) return key;
  const bool length_is_right = digits.size() == key.bytes.size() * 2;
  return absl::InvalidArgumentError(fmt::format("bad digest \"{}\": {}", text,
                                                length_is_right
                                                    ? "a character that is no hex digit"
                                                    : "it must be \"sha256:\" and 64 hex digits"));
}

}  // namespace blobcache::tree
