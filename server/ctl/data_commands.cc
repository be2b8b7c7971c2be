#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/bar.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/input_file.h"
#include "server/ctl/interrupt.h"
#include "server/ctl/output_file.h"
#include "server/ctl/progress_bar.h"
#include "server/ctl/text.h"
#include "store/tree/digest.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct PutOptions {
  std::string file;
  std::optional<std::string> name;
  std::optional<std::string> digest;
};

struct GetOptions {
  std::string path;
  std::string output = "-";
  std::optional<std::string> offset;
  std::optional<std::string> length;
};

std::string last_component(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// ------------------------------------------------------------------------------------------- put

Outcome show_put(const GlobalOptions& options, const std::string& name,
                 const net::PutResult& result) {
  const std::string digest = tree::format_digest(result.digest);
  if (!options.json) return print(digest + "\n");
  Json document;
  document["digest"] = digest;
  document["size"] = result.size_bytes;
  document["existed"] = result.existed;
  document["name"] = name.empty() ? Json(nullptr) : Json(name);
  return print_json(document);
}

Outcome put(const PutOptions& arguments, Session& session) {
  const std::string what = fmt::format("put {}", escape(arguments.file));
  std::string name;
  if (arguments.name) {
    absl::StatusOr<std::string> parsed = parse_name(*arguments.name);
    if (!parsed.ok()) return Outcome::usage("put --name", base::message(parsed.status()));
    name = *std::move(parsed);
  }
  std::optional<page::ObjectKey> expected;
  if (arguments.digest) {
    const absl::StatusOr<page::ObjectKey> parsed = parse_digest(*arguments.digest);
    if (!parsed.ok()) return Outcome::usage("put --digest", base::message(parsed.status()));
    expected = *parsed;
  }

  Interrupt interrupt;
  absl::StatusOr<InputFile> file = InputFile::open(arguments.file);
  if (!file.ok()) return Outcome::failed(what, file.status());
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(),
               arguments.file == "-" ? "standard input" : last_component(arguments.file),
               file->size_bytes());
  const absl::StatusOr<net::PutResult> result =
      (*client)->put(name, file->data_bytes().value_or(0), expected,
                     [&](absl::Span<std::byte> buffer) -> absl::StatusOr<size_t> {
                       absl::StatusOr<size_t> got = file->read(buffer);
                       if (got.ok()) bar->advance(*got);
                       return got;
                     });
  bar->clear();
  if (!result.ok()) return Outcome::failed(what, result.status());
  return show_put(session.options(), name, *result);
}

// ------------------------------------------------------------------------------------------- get

/// What a get learned about its file, and how much it brought.
struct Got {
  net::RemoteFile file;
  uint64_t bytes = 0;
};

/// A range of no bytes still needs a file, with that offset in it.
absl::StatusOr<Got> get_nothing(net::RpcClient& client, const std::string& path, uint64_t offset) {
  const std::unique_ptr<v1::Data::Stub> stub = v1::Data::NewStub(client.channel());
  v1::StatRequest request;
  request.set_path(path);
  BLOBCACHE_ASSIGN_OR_RETURN(const v1::StatResponse response,
                             call(client, *stub, &v1::Data::Stub::Stat, request));
  if (response.node().type() != v1::Node::FILE) {
    if (response.node().type() == v1::Node::SYMLINK) {
      return absl::FailedPreconditionError("it is a symbolic link");
    }
    const bool volume = response.node().type() == v1::Node::VOLUME;
    return base::error(absl::StatusCode::kFailedPrecondition,
                       volume
                           ? "it is an image; read it through NBD, or commit it if it is a volume"
                           : "it is a directory");
  }
  Got got;
  got.file.size_bytes = response.node().size();
  if (offset > got.file.size_bytes) {
    return base::error(
        absl::StatusCode::kInvalidArgument,
        fmt::format("offset {} is past the end of {} bytes", offset, got.file.size_bytes));
  }
  const std::string& digest = response.node().digest();
  if (digest.size() == got.file.digest.bytes.size()) {
    std::copy(digest.begin(), digest.end(), got.file.digest.bytes.begin());
  }
  return got;
}

/// The daemon would send what there is of the range; a caller who asked for more must not take it
/// for all.
absl::Status past_the_end(const ByteRange& range, const net::RemoteFile& file) {
  return base::error(absl::StatusCode::kOutOfRange,
                     fmt::format("{} bytes from offset {} on pass the end; the file has {} bytes",
                                 range.length.value_or(0), range.offset, file.size_bytes));
}

absl::StatusOr<Got> get_bytes(net::RpcClient& client, const std::string& path,
                              const ByteRange& range, ProgressBar& bar, OutputFile& output) {
  if (range.length == uint64_t{0}) return get_nothing(client, path, range.offset);
  Got got;
  const auto begin = [&](const net::RemoteFile& file) {
    got.file = file;
    const uint64_t rest = file.size_bytes - std::min(range.offset, file.size_bytes);
    bar.set_total(range.length.value_or(rest));
    return range.length.value_or(0) <= rest ? absl::OkStatus() : past_the_end(range, file);
  };
  const auto consume = [&](absl::Span<const std::byte> bytes) -> absl::Status {
    BLOBCACHE_RETURN_IF_ERROR(output.write(bytes));
    got.bytes += bytes.size();
    bar.advance(bytes.size());
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(
      client.get(path, range.offset, range.length.value_or(0), begin, consume));
  return got;
}

Outcome show_get(const std::string& path, const GetOptions& arguments, const ByteRange& range,
                 const Got& got) {
  Json document;
  document["path"] = path;
  document["digest"] = tree::format_digest(got.file.digest);
  document["size"] = got.file.size_bytes;
  document["offset"] = range.offset;
  document["length"] = got.bytes;
  document["output"] = arguments.output;
  return print_json(document);
}

Outcome get(const GetOptions& arguments, Session& session) {
  const std::string what = fmt::format("get {}", escape(arguments.path));
  const absl::StatusOr<std::string> path = parse_path(arguments.path);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  const absl::StatusOr<ByteRange> range = parse_range(arguments.offset, arguments.length);
  if (!range.ok()) return Outcome::usage(what, base::message(range.status()));
  if (session.options().json && arguments.output == "-") {
    return Outcome::usage(what, "--json needs -o FILE: standard output holds the document");
  }

  Interrupt interrupt;
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  absl::StatusOr<std::unique_ptr<OutputFile>> created = OutputFile::create(arguments.output);
  if (!created.ok()) return Outcome::failed(what, created.status());
  const std::shared_ptr<OutputFile> output = *std::move(created);
  interrupt.add([output] { output->discard(); });
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(), last_component(*path), std::nullopt);
  const absl::StatusOr<Got> got = get_bytes(**client, *path, *range, *bar, *output);
  bar->clear();
  if (output->broken_pipe()) return Outcome::broken_pipe();
  if (!got.ok()) return Outcome::failed(what, with_hint(got.status(), *path));
  if (const absl::Status status = output->commit(); !status.ok()) {
    return Outcome::failed(what, status);
  }
  if (!session.options().json) return Outcome::done();
  return show_get(*path, arguments, *range, *got);
}

void add_put(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<PutOptions>();
  CLI::App* const command = app.add_subcommand("put", "Store a file as a blob; print its digest");
  command->group("Data");
  command->add_option("FILE", options->file, "The file; - is standard input")
      ->required()
      ->type_name("");
  command
      ->add_option("--name", options->name,
                   "Bind files/PATH to the blob in the same step (files/ may be left out)")
      ->type_name("PATH");
  command
      ->add_option("--digest", options->digest, "Store nothing unless the content has this SHA-256")
      ->type_name("sha256:HEX");
  command->footer(
      "Examples:\n"
      "  blobcachectl put debian.raw --name images/debian.raw\n"
      "  tar c src | blobcachectl put - --name src.tar");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return put(*options, session); };
  });
}

void add_get(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<GetOptions>();
  CLI::App* const command =
      app.add_subcommand("get", "Write a file's bytes to standard output or a local file");
  command->group("Data");
  command->add_option("PATH", options->path, "A path of the tree, or sha256:HEX")
      ->required()
      ->type_name("");
  command
      ->add_option("-o,--output", options->output,
                   "Write to FILE, which appears when all of it is there")
      ->type_name("FILE");
  command->add_option("--offset", options->offset, "Begin at this byte")->type_name("SIZE");
  command
      ->add_option("--length", options->length,
                   "Write this many bytes; more than there are is an error")
      ->type_name("SIZE");
  command->footer(
      "Sizes may have units: 4096, 64KiB, 1.5GiB.\n"
      "Examples:\n"
      "  blobcachectl get files/images/debian.raw -o debian.raw\n"
      "  blobcachectl get files/images/debian.raw --offset 1MiB --length 512 | xxd");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return get(*options, session); };
  });
}

}  // namespace

void add_data_commands(CLI::App& app, Action& selected) {
  add_put(app, selected);
  add_get(app, selected);
}

}  // namespace blobcache::ctl
