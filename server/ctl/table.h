#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace blobcache::ctl {

/// Rows of cells that come out in aligned columns. Cells are escaped (see text.h), so whatever a
/// name holds, a row is one line. Put what varies most in length last: the last column is never
/// padded.
///
/// One thread at a time.
class Table {
 public:
  enum class Align : uint8_t { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  /// A table whose titles are all empty has no title row.
  explicit Table(std::vector<Column> columns);

  /// As many cells as there are columns.
  void add_row(std::vector<std::string> cells);

  [[nodiscard]] bool empty() const { return rows_.empty(); }

  /// One line a row, each ended by a newline; columns are two spaces apart.
  [[nodiscard]] std::string render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// A table of two columns, "name  value", for what is shown of one thing.
[[nodiscard]] Table property_table();

}  // namespace blobcache::ctl
