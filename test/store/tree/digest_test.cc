#include "store/tree/digest.h"

#include <doctest/doctest.h>

#include <string>

#include "base/status.h"

namespace blobcache::tree {
namespace {

absl::Span<const std::byte> text_bytes(std::string_view text) {
  const void* data = text.data();
  return {static_cast<const std::byte*>(data), text.size()};
}

TEST_CASE("digest: the examples of FIPS 180-2") {
  CHECK(format_digest(Sha256().finish()) ==
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.update(text_bytes("abc"));
  CHECK(format_digest(abc.finish()) ==
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 million;
  const std::string piece(1000, 'a');
  for (int i = 0; i < 1000; ++i) million.update(text_bytes(piece));
  CHECK(format_digest(million.finish()) ==
        "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("digest: text in either form and case") {
  const std::string hex = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const page::ObjectKey key = parse_digest(hex).value();
  CHECK(parse_digest("sha256:" + hex).value() == key);
  CHECK(format_digest(key).substr(7, 2) == "ba");
}

TEST_CASE("digest: anything else is INVALID_ARGUMENT and says why") {
  const std::string hex(64, 'a');
  for (const std::string& text :
       {std::string(), std::string("sha256:"), hex.substr(1), hex + "a", "sha1:" + hex,
        "SHA256:" + hex, "sha256:sha256:" + hex, "sha256: " + hex.substr(1), hex.substr(1) + "g"}) {
    INFO(text);
    const auto key = parse_digest(text);
    REQUIRE_FALSE(key.ok());
    CHECK(absl::IsInvalidArgument(key.status()));
    CHECK(base::message(key.status()).find(text) != std::string_view::npos);
  }
}

}  // namespace
}  // namespace blobcache::tree
