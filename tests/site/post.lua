-- wrk: posts the files named behind "--", one after the other.
local requests, at = {}, 0

function init(args)
    for i = 1, #args do
        local file = assert(io.open(args[i], "rb"))
        requests[i] = wrk.format("POST", nil, { ["Content-Type"] = "application/octet-stream" }, file:read("*a"))
        file:close()
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
