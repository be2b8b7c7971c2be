#include "bench/hit_ratio/trace.h"

#include <doctest/doctest.h>

#include <sstream>

#include "base/status.h"

namespace blobcache::hit_ratio {
namespace {

std::string problem(const std::string& text) {
  std::istringstream in(text);
  return std::string(base::message(parse_csv(in, "t.csv").status()));
}

std::vector<uint32_t> extents(const Trace& trace) {
  std::vector<uint32_t> all;
  for (const Request& request : trace.requests) all.push_back(request.extent);
  return all;
}

}  // namespace

TEST_CASE("a CSV trace reads whole objects, extent by extent") {
  std::istringstream in(
      "key,size\nsmall,100\nlarge,600000\r\n\nsmall,4096,more,columns\nlarge,600000\n");
  const Trace trace = parse_csv(in, "t.csv").value();
  CHECK(extents(trace) == std::vector<uint32_t>{0, 1, 2, 3, 0, 1, 2, 3});
  CHECK(trace.sizes == std::vector<uint32_t>{4096, 262144, 262144, 600000 - 2 * 262144});
  CHECK(trace.footprint() == 4096 + 600000);
  CHECK(trace.name == "t.csv");
}

TEST_CASE("an object that grows keeps the extents that it had") {
  std::istringstream in("a,100\nb,100\na,300000\n");
  const Trace trace = parse_csv(in, "t.csv").value();
  CHECK(extents(trace) == std::vector<uint32_t>{0, 1, 0, 2});
  CHECK(trace.sizes == std::vector<uint32_t>{262144, 100, 300000 - 262144});
}

TEST_CASE("lines that are none are refused with their number") {
  const std::string form = "a line is KEY,SIZE with SIZE in bytes";
  CHECK(problem("a,1\nb\n") == "t.csv:2: " + form);
  CHECK(problem("a,x\n") == "t.csv:1: " + form);
  CHECK(problem("a,-1\n") == "t.csv:1: " + form);
  CHECK(problem("a,\n") == "t.csv:1: " + form);
  CHECK(problem(",5\n") == "t.csv:1: " + form);
  CHECK(problem("a,99999999999999999999999\n") == "t.csv:1: " + form);
  CHECK(problem("a,1099511627777\n") == "t.csv:1: an object of more than 1 TiB");
  CHECK(problem("") == "t.csv:1: the trace reads nothing");
  CHECK(problem("a,0\n") == "t.csv:1: the trace reads nothing");
}

TEST_CASE("a trace that is not there is not found") {
  CHECK(absl::IsNotFound(read_csv("/nonexistent.csv").status()));
}

}  // namespace blobcache::hit_ratio
