#pragma once

#include <string>

#include "server/config.h"
#include "server/impl/config_checks.h"

namespace blobcache::server {

/// What is wrong with an origin of type http or s3, each key after `prefix`. As
/// net::make_http_origin() and net::make_s3_origin() have it. Contacts nobody.
void check_http_origin(const Config::Origin& origin, const std::string& prefix,
                       const ReportProblem& report);

/// Keys that say something and are of another type of origin than this one.
void check_foreign_keys(const Config::Origin& origin, const std::string& prefix,
                        const ReportProblem& report);

}  // namespace blobcache::server
