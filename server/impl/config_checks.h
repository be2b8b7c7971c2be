#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "server/config.h"

namespace blobcache::server {

/// Takes one problem: the key that it is about ("nbd.listen") and what is wrong.
using ReportProblem = std::function<void(std::string_view full_name, std::string what)>;

/// What no key can say alone: keys that need one another, listeners that would let strangers in,
/// and what this version does not serve. Pure.
void check_config(const Config& config, const ReportProblem& report);

}  // namespace blobcache::server
