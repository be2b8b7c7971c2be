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
    origin_row<&Origin::type>("type", "What it is: nbd, http, s3 or dir"),
    origin_row<&Origin::url>("url",
                             "Where it is: an NBD server or one export of it, a folder of an HTTP "
                             "server, or a bucket or a folder of it"),
    absolute(origin_row<&Origin::path>("path", "Which directory it is, of type dir")),
    between(
        1, 16,
        origin_row<&Origin::connections>(
            "connections",
            "How many connections an export is read over at most, or how many requests or reads "
            "are under way at a time")),
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
    between(kSecond / 10, kHour,
            origin_row<&Origin::stall_timeout>(
                "stall_timeout",
                "How long a reply may bring less than 1 KiB a second before it is given up")),
    origin_row<&Origin::rate_limit>("rate_limit",
                                    "How many bytes a second are read at most; 0 for no limit"),
    origin_row<&Origin::proxy>("proxy", "The url of a proxy"),
    absolute(origin_row<&Origin::tls_ca>(
        "tls_ca", "A file with the certificates that are believed, instead of the system's")),
    origin_row<&Origin::private_redirects>(
        "private_redirects", "Whether redirects may lead to this machine and private networks"),
    absolute(origin_row<&Origin::token_file>("token_file", "A file with a bearer token")),
    absolute(origin_row<&Origin::header_file>("header_file", "A file with header lines to send")),
    origin_row<&Origin::endpoint>("endpoint", "The server of an s3 origin, if not Amazon's"),
    origin_row<&Origin::region>("region", "The region that requests are signed for"),
    origin_row<&Origin::path_style>(
        "path_style", "Whether the bucket stands in the path and not in the host's name"),
    absolute(origin_row<&Origin::credentials_file>(
        "credentials_file", "A file with keys, as the AWS programs have it")),
    origin_row<&Origin::profile>("profile", "The section of that file"),
};

}  // namespace

absl::Span<const ConfigKey> origin_keys() { return kOriginKeys; }

}  // namespace blobcache::server
