# Generated sources that repeat the same headers are compiled together: two thirds of the time. Those
# of the other targets define the same static names and cannot be.
function(join_generated_sources)
  foreach(kind c cpp fastrtps_c fastrtps_cpp introspection_c introspection_cpp)
    set(library ${PROJECT_NAME}__rosidl_typesupport_${kind})
    if(TARGET ${library})
      set_target_properties(${library} PROPERTIES UNITY_BUILD ON)
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL join_generated_sources)
