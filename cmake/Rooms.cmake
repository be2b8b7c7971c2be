# A room is one folder and one library. PRIVATE links keep third parties out of its users' sight.

# blobcache_room(<name> SOURCES ... [USES <rooms>...] [PRIVATE <libraries>...])
# USES are rooms (and Abseil targets) that the public headers include; PRIVATE is for .cc files alone.
function(blobcache_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;USES;PRIVATE" ${ARGN})
  add_library(blobcache_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(blobcache_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(blobcache_${name}
    PUBLIC absl::status absl::statusor absl::time absl::span absl::any_invocable absl::inlined_vector ${ROOM_USES}
    PRIVATE blobcache_warnings absl::synchronization absl::flat_hash_map absl::flat_hash_set fmt::fmt
            spdlog::spdlog Threads::Threads ${ROOM_PRIVATE})
endfunction()

# blobcache_unit_test(<name> SOURCES ... LINKS <libraries>...): build/bin/<name>_test, run by ctest as unit/<name>.
function(blobcache_unit_test name)
  cmake_parse_arguments(UNIT "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name}_test ${UNIT_SOURCES} ${PROJECT_SOURCE_DIR}/test/unit_main.cc)
  target_link_libraries(${name}_test PRIVATE ${UNIT_LINKS} blobcache_warnings doctest::doctest
    absl::synchronization absl::flat_hash_map fmt::fmt spdlog::spdlog Threads::Threads)
  add_test(NAME unit/${name} COMMAND ${name}_test)
  set_tests_properties(unit/${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
