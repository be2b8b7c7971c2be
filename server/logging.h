#pragma once

#include <string>
#include <string_view>

#include "server/config.h"

namespace blobcache::server {

/// Sends the process's log to stderr, one line a message, warnings and errors only at first. Under
/// systemd (when $JOURNAL_STREAM says that stderr is the journal) each line starts with its
/// priority, "<4>", instead of a time. Call it before there are other threads.
void start_logging();

/// From now on. Thread-safe.
void set_log_level(LogLevel level);

/// Logs a line whatever the level: what scripts and operators wait for. Thread-safe.
void log_always(std::string_view line);

/// True when $JOURNAL_STREAM's value ("DEVICE:INODE") names the file that `fd` is.
[[nodiscard]] bool is_journal(std::string_view journal_stream, int fd);

}  // namespace blobcache::server
