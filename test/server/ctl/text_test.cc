#include "server/ctl/text.h"

#include <doctest/doctest.h>

#include <string>

#include "server/ctl/outcome.h"
#include "server/ctl/table.h"

namespace blobcache::ctl {
namespace {

TEST_CASE("escape shows what a terminal would act upon") {
  CHECK(escape("plain name-1.raw") == "plain name-1.raw");
  CHECK(escape("a\nb\tc\rd") == "a\\nb\\tc\\rd");
  CHECK(escape("\x1b[31mred") == "\\x1b[31mred");
  CHECK(escape("back\\slash") == "back\\\\slash");
  CHECK(escape("\x7f") == "\\x7f");
  CHECK(escape(std::string("\0", 1)) == "\\x00");
}

TEST_CASE("escape keeps good UTF-8 and shows the bytes of bad UTF-8") {
  CHECK(escape("größe-日本-🙂") == "größe-日本-🙂");
  CHECK(escape("\xff") == "\\xff");
  CHECK(escape("a\xc3") == "a\\xc3");                           // cut off
  CHECK(escape("\xc0\xaf") == "\\xc0\\xaf");                    // overlong
  CHECK(escape("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // surrogate
  CHECK(escape("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond Unicode
  CHECK(escape("\xc2\x9b") == "\\xc2\\x9b");                    // C1: another way to write ESC [
  CHECK(escape("\xe2\x80\xae") == "\\xe2\\x80\\xae");           // right-to-left override
}

TEST_CASE("is_utf8") {
  CHECK(is_utf8(""));
  CHECK(is_utf8("größe\n"));
  CHECK_FALSE(is_utf8("a\x80"));
  CHECK_FALSE(is_utf8("\xe2\x80"));
}

TEST_CASE("shorten counts characters, not bytes") {
  CHECK(shorten("abcdef", 6) == "abcdef");
  CHECK(shorten("abcdefg", 6) == "abc...");
  CHECK(shorten("größere", 6) == "grö...");
  CHECK(shorten("abcdef", 2) == "..");
  CHECK(shorten("abcdef", 0).empty());
  CHECK(display_width("größe") == 5);
}

TEST_CASE("modes read as ls shows them") {
  CHECK(format_mode(true, 0755) == "drwxr-xr-x");
  CHECK(format_mode(false, 0644) == "-rw-r--r--");
  CHECK(format_mode(false, 04755) == "-rwsr-xr-x");
  CHECK(format_mode(false, 02644) == "-rw-r-Sr--");
  CHECK(format_mode(true, 01777) == "drwxrwxrwt");
  CHECK(format_mode(true, 01776) == "drwxrwxrwT");
}

TEST_CASE("times") {
  const absl::Time time = absl::FromUnixNanos(1'000'000'000'000'000'123);
  CHECK(format_utc(time) == "2001-09-09T01:46:40.000000123Z");
  CHECK(format_utc(absl::FromUnixNanos(-1)) == "1969-12-31T23:59:59.999999999Z");
  CHECK(format_local_time(time).size() == 16);
  CHECK(format_clock(7) == "0:07");
  CHECK(format_clock(754) == "12:34");
  CHECK(format_clock(3 * 3600 + 61) == "3:01:01");
  CHECK(format_age(42) == "42 s");
  CHECK(format_age(63) == "1 min 3 s");
  CHECK(format_age(2 * 3600 + 300) == "2 h 5 min");
  CHECK(format_age(3 * 86400 + 4 * 3600) == "3 d 4 h");
  CHECK(format_share(1, 8) == "12.5 %");
  CHECK(format_share(0, 0) == "-");
}

TEST_CASE("a table aligns its columns and pads none at the line's end") {
  Table table({{"SIZE", Table::Align::kRight}, {"NAME", Table::Align::kLeft}});
  table.add_row({"1 B", "größer"});
  table.add_row({"12.0 KiB", "b"});
  CHECK(table.render() ==
        "    SIZE  NAME\n"
        "     1 B  größer\n"
        "12.0 KiB  b\n");
}

TEST_CASE("a table pads in the middle by characters, and escapes cells") {
  Table table({{"", Table::Align::kLeft}, {"", Table::Align::kLeft}});
  table.add_row({"grö", "x"});
  table.add_row({"long", "two\nlines"});
  CHECK(table.render() ==
        "grö   x\n"
        "long  two\\nlines\n");
  CHECK(property_table().render().empty());
}

TEST_CASE("digests have their algorithm before them") {
  CHECK(format_digest(std::string(31, '\x00') + "\xff") == "sha256:" + std::string(62, '0') + "ff");
}

TEST_CASE("outcomes: what could not be reached is told apart from what failed") {
  const Outcome away = Outcome::failed("status", unreachable("unix:/x", "is blobcached running?"));
  CHECK(away.exit == ExitStatus::kUnreachable);
  CHECK(away.message == "cannot reach unix:/x: is blobcached running?");
  const Outcome failed = Outcome::failed("mount /mnt", absl::UnavailableError("no /dev/fuse"));
  CHECK(failed.exit == ExitStatus::kFailed);
  CHECK(failed.message == "mount /mnt: no /dev/fuse");
  const Outcome twice = Outcome::failed("get files/a", absl::NotFoundError("files/a: gone"));
  CHECK(twice.message == "get files/a: gone");
  const Outcome other = Outcome::failed("get files/ba", absl::NotFoundError("a: gone"));
  CHECK(other.message == "get files/ba: a: gone");
  CHECK(Outcome::usage("put", "why").exit == ExitStatus::kUsage);
}

}  // namespace
}  // namespace blobcache::ctl
