-- Packing of values into bytes, as the struct library of R. Ierusalimschy has it; the host does the work.

local host = ...

local function checked(value, mistake, ...)
  if value == nil then
    error(mistake)
  end
  return value, mistake, ...
end

local struct = {}

function struct.pack(...)
  return (checked(host.struct_pack(...)))
end

function struct.unpack(...)
  return checked(host.struct_unpack(...))
end

function struct.size(...)
  return (checked(host.struct_size(...)))
end

return struct
