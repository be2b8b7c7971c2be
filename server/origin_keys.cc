// The keys of an origin; see config_keys.h.

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "server/config.h"
#include "server/config_keys.h"
#include "server/impl/config_row.h"

namespace blobcache::server {
namespace {

using Origin = Config::Origin;

constexpr uint64_t kHour = 3600 * kSecond;

constexpr std::array kOriginKeys = {
    origin_row<&Origin::name>("name", "What it is called: it is seen as origins/<name>/"),
    origin_row<&Origin::type>("type", "What it is: nbd or dir"),
    origin_row<&Origin::url>("url",
                             "Where it is: an NBD server, of which an export with an empty name is "
                             "seen as default, or one export of it"),
    absolute(origin_row<&Origin::path>("path", "Which directory it is, of type dir")),
    between(1, 16,
            origin_row<&Origin::connections>(
                "connections",
                "How many connections an export is read over at most, or how many "
                "reads of a directory are under way at a time")),
    origin_row<&Origin::read_only>("read_only",
                                   "Whether its exports are files, or writable images"),
    origin_row<&Origin::immutable>(
        "immutable",
        "Whether an export has the same bytes for as long as it has the same size, so that what "
        "is cached outlives the open and the daemon"),
    between(kSecond / 10, kHour,
            origin_row<&Origin::connect_timeout>("connect_timeout",
                                                 "How long a connection may take to be made")),
    between(kSecond / 10, kHour,
            origin_row<&Origin::request_timeout>(
                "request_timeout",
                "How long a request may take, with all that is tried again meanwhile")),
    absolute(origin_row<&Origin::tls_certificates>(
        "tls_certificates",
        "A directory with ca-cert.pem, and client-cert.pem and client-key.pem where the server "
        "wants them")),
    absolute(origin_row<&Origin::tls_psk>("tls_psk", "A file with a pre-shared key")),
};

}  // namespace

absl::Span<const ConfigKey> origin_keys() { return kOriginKeys; }

}  // namespace blobcache::server
