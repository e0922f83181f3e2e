"""Scripts whose replies are compared with redis-server's, one a line; those that follow may build on those before."""

# fmt: off
LANGUAGE = r"""
redis.call('set','s','x') return redis.pcall('incr','s')
return (
return 1 end
return {redis.pcall('incr','s','b')}
return {err='FOO bar'}
return {err='foo'}
return {err='-foo x'}
return {err=1}
return redis.error_reply('foo')
return redis.error_reply('foo bar')
return redis.error_reply('-FOO bar')
return redis.error_reply('-FOO')
return redis.error_reply('-')
return redis.error_reply('')
return redis.error_reply()
return redis.error_reply(1)
return redis.status_reply(1,2)
return redis.status_reply('x')
return {ok=1}
return {ok='a\r\nb'}
return {err='a\r\nb'}
error('x')
error({err='x'})
error({err='X y'})
error()
error({err=1})
error(1)
error(redis.error_reply('a b'))
error('x',0)
error('-FOO x',0)
return 3.99
return -3.99
return 1e30
return 0/0
return -1/0
return true
return false
return nil
return
return {1,2,nil,4}
return {true,false}
return print
return redis.call
return {redis.call}
return coroutine.create(function() end)
return {double=3.5}
return {map={a=1}}
return {set={a=true}}
return {big_number='123'}
return {verbatim_string={string='a',format='txt'}}
return {big_number=1}
return {double='3'}
return {1,{double=1.25}}
return {double=1e300}
return {double=1/0}
return redis.call()
return redis.call({})
return redis.call(nil)
return redis.call('get',true)
return redis.call('get')
return redis.call('eval','return 1','0')
return redis.call('set','a',1.5)
return redis.call('get','a')
return redis.call('echo',1e17)
return redis.call('echo',1e16)
return redis.call('echo',1e15)
return redis.call('echo',123456789012)
return redis.call('echo',3)
return redis.call('echo',0.1)
return redis.call('echo',1/0)
return redis.call('auth','x')
return redis.call('config','get','x')
return redis.call('config')
return redis.call('object','foo','x')
return redis.call('debug','sleep','0')
return redis.call('client','id')
return redis.call('shutdown')
return redis.call('ping')
return redis.call('PING','x')
return redis.call('command','getkeys','eval','return 1','2','a','b')
redis.setresp(3) return redis.call('get','nosuch')
redis.setresp(3) return true
redis.setresp(3) return {true,false}
redis.setresp(3) return redis.call('get','nosuch')==nil
return redis.call('get','nosuch')==false
redis.setresp(4)
redis.setresp()
redis.setresp('3')
return tostring(redis.setresp(2))
local r={} for k,v in pairs(redis) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(string) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(table) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(math) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(cjson) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(cmsgpack) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(bit) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(struct) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
local r={} for k,v in pairs(coroutine) do r[#r+1]=k end table.sort(r) return table.concat(r,' ')
x=1
return x
_G.x=1
return _G.x
return rawget(_G,'x')
rawset(_G,'x',1)
redis.x=1
return redis.x
return string.x
string.x=1
getmetatable('').__index=1
return getmetatable('').__index==string
setmetatable(_G,{})
setmetatable(redis,{})
table.insert(redis,1)
table.sort(nil)
return table.concat({1,{},3})
string.rep()
return ('x'):rep(3)
return string.find('abc','b')
return string.find('abc','[')
return string.find('abc')
return string.find(nil,'x')
return string.gsub('abc','%w','%%%1')
return ('abc'):gsub('b',function(x) error('inner') end)
return pcall(error,'x')
local ok,e=pcall(error,'x') return e
local ok,e=pcall(error,{err='E x'}) return e
local ok,e=pcall(function() error('x') end) return e
local ok,e=pcall(redis.call,'nosuch') return e
local ok,e=pcall(string.rep) return e
local ok,e=pcall(function() return string.rep() end) return e
local ok,e=pcall(function() local x=string.rep() return x end) return e
local ok,e=pcall(function() return x end) return e
local ok,e=pcall(function(a,b) return a+b end,1,2) return e
local ok,e=xpcall(function() error('x') end,function(e) return 'h:'..e end) return e
local ok,e=xpcall(function() redis.call('nosuch') end,function(e) return e end) return e
local co=coroutine.create(function() error('x') end) local ok,e=coroutine.resume(co) return e
local co=coroutine.create(function() string.rep() end) local ok,e=coroutine.resume(co) return e
local f=coroutine.wrap(function() error('x') end) f()
local f=coroutine.wrap(function() error({err='E y'}) end) f()
local f=coroutine.wrap(function() for i=1,3 do coroutine.yield(i) end end) return {f(),f(),f()}
local co=coroutine.create(function() return redis.call('ping') end) local ok,e=coroutine.resume(co) return e
coroutine.create(1)
return loadstring('return 1+1')()
return loadstring('x=1')()
local f,e=loadstring('x = =') return e
local f,e=loadstring('x = =','@foo') return e
local f,e=loadstring('error("x")','@foo') f()
loadstring('error("x")')()
return load(function() return nil end)
local p={'return ','7'} local i=0 return load(function() i=i+1 return p[i] end)()
math.randomseed(5) return {math.random(1,100),math.random(10),math.random(1,1000)}
math.random(0)
math.random(5,1)
math.random(1,2,3)
math.random('x')
math.random({})
math.randomseed()
return redis.sha1hex('x')
return redis.sha1hex()
return redis.sha1hex(1,2)
return redis.sha1hex(1)
redis.log(redis.LOG_DEBUG,'x')
redis.log()
redis.log(1)
redis.log('x','y')
redis.log(9,'y')
return redis.replicate_commands()
return redis.breakpoint()
return redis.debug('x')
redis.set_repl()
redis.set_repl(1,2)
redis.set_repl(9)
return redis.set_repl(redis.REPL_ALL)
return redis.acl_check_cmd()
return redis.acl_check_cmd('get','x')
return redis.acl_check_cmd('nosuch','x')
return redis.acl_check_cmd({})
return redis.acl_check_cmd('config','get')
return redis.LOG_WARNING
return #ARGV
KEYS[1]='x' return KEYS[1]
KEYS={'z'} return KEYS[1]
ARGV=5
local t={} for i=1,300 do t[i]='k'..i end return redis.call('exists',unpack(t))
local t={} for i=1,3000 do t[i]=tostring(i) end return redis.call('mset',unpack(t))
local t={'mset'} for i=1,301 do t[#t+1]=i end return redis.call(unpack(t))
local t={'mset'} for i=1,300 do t[#t+1]=i+0.5 end return redis.call(unpack(t))
local t={'mset'} for i=1,300 do t[#t+1]={} end return redis.call(unpack(t))
local function f() return 1+f() end f()
local function f() local ok,e=pcall(f) return e end return f()
local s='x' while true do s=s..s if #s>1000 then break end end return #s
return string.format('%d %s %q %5.2f','3','a','b',1.5)
return string.format('%d','x')
return string.format('%y')
return tostring(1e15)..tostring(0.1)..tostring(-0)..tostring(1e100)
return tonumber('0x10')
return tonumber('10',2)
return tonumber('z',99)
return select('#',1,2,3)
return select(-1,1,2,3)
return select(0)
return next({})
return next({},1)
return rawequal(1,1)
return #{1,2,3}
return table.getn({1,2})
return table.maxn({1,2,[10]=1})
return table.remove({1,2,3})
local t={3,1,2} table.sort(t) return t
local t={3,1,2} table.sort(t,function(a,b) return a>b end) return t
table.sort({1,2,3},function(a,b) error('cmp') end)
table.sort({1,'x'})
local t={} table.insert(t,1) table.insert(t,1,2) return t
table.insert({},1,2,3)
table.insert(nil,1)
table.foreach({1},function(k,v) error('fe') end)
for k,v in pairs(nil) do end
for k,v in ipairs(nil) do end
for k,v in next,{1} do return v end
local a=nil a.b=1
local a=nil return a.b
return 1+{}
return 1 .. {}
return {} < {}
return #nil
nosuch()
redis.nosuch()
local t={} t.x.y=1
return setmetatable({},{__index=function(t,k) return k end}).foo
return setmetatable({1,2},{__index=function(t,k) return k end})
return tostring(setmetatable({},{__tostring=function() return 'ts' end}))
error(setmetatable({},{__tostring=function() return 'ts' end}).x)
assert(false)
assert(false,'msg')
assert(nil,{err='A b'})
return assert(1,2)
collectgarbage('xx')
return type(cjson.null)
return tostring(nil)
return type(redis.call)
return _VERSION
return {1,'a',{2,{3}},{ok='s'},{err='E r'}}
redis.call('set','n','5') return redis.call('incr','n')
redis.call('select','5') redis.call('set','in5','1') return 1
return redis.call('exists','in5')
return redis.call('set','a','b','xx','nx')
return redis.pcall('set','a')['err']
return redis.call('get','a').ok
return redis.call('set','a','b')['ok']
return redis.call('object','encoding','a')
return redis.call('type','a')
return redis.call('type','a')['ok']
return redis.call('mget','a','nosuch','n')
return redis.call('select','99')
return redis.call('copy','a','b')
return redis.call('incrbyfloat','ff','1.5')
return redis.call('lcs','a','b','idx')
return redis.call('hello','3')
return redis.call('reset')
"""

RESP3 = r"""
return nil
return true
return false
return {1,nil,2}
return {true,false}
return {double=3.5}
return {double=1/0}
return {map={a=1}}
return {set={a=true}}
return {big_number='123'}
return {verbatim_string={string='a',format='txt'}}
return {verbatim_string={string='a',format='x'}}
return {verbatim_string={string='a',format='xxxxx'}}
redis.setresp(3) return true
redis.setresp(3) return {true,false}
redis.setresp(3) return redis.call('get','nosuch')
redis.setresp(3) return redis.call('mget','nosuch','a')
redis.setresp(3) local r=redis.call('config','get','x')
redis.setresp(3) local r=redis.call('lcs','a','b','idx') return r.map and 1
redis.setresp(3) return redis.call('lcs','a','b','idx')
redis.setresp(3) return redis.call('command','docs','ping').map.ping.map.group
return redis.call('lcs','a','b','idx')
redis.setresp(3) return redis.call('command','info','get')[1][3].set['readonly']
redis.setresp(3) return redis.call('incrbyfloat','ff','1.5')
return {err='x y'}
return redis.call('nosuch')
return 1
"""

JSON = r"""
return cjson.encode(1)
return cjson.encode(1.5)
return cjson.encode(1e15)
return cjson.encode(123456789012345)
return cjson.encode(0.1)
return cjson.encode(1e300)
return cjson.encode(-0)
return cjson.encode(0/0)
return cjson.encode(1/0)
return cjson.encode({1/0})
return cjson.encode(nil)
return cjson.encode(true)
return cjson.encode(cjson.null)
return cjson.encode({})
return cjson.encode({1,2,3})
return cjson.encode({1,nil,3})
return cjson.encode({[1]=1,[3]=3})
return cjson.encode({[1]=1,[20]=3})
return cjson.encode({[1]=1,[11]=3})
return cjson.encode({[10]=1})
return cjson.encode({[11]=1})
return cjson.encode({[0]=1})
return cjson.encode({[1.5]=1})
return cjson.encode({[-1]=1})
return cjson.encode({a=1})
return cjson.encode({a={b={c={}}}})
return cjson.encode({[true]=1})
return cjson.encode({[{}]=1})
return cjson.encode(print)
return cjson.encode(redis.call)
return cjson.encode({redis.call})
return cjson.encode({a=function() end})
return cjson.encode(coroutine.create(function() end))
return cjson.encode()
return cjson.encode(1,2)
return cjson.encode("a\"b\\c/d\b\f\n\r\t\0\1\31\127\128\255é")
local t={} for i=1,1000 do t={t} end return #cjson.encode(t)
local t={} for i=1,1001 do t={t} end return #cjson.encode(t)
local t={} t[1]=t return cjson.encode(t)
local t={} for i=1,999 do t={t} end return #cjson.encode(t)
return cjson.decode('1')
return cjson.decode('1.5') * 2
return tostring(cjson.decode('1e5'))
return tostring(cjson.decode('-1'))
return tostring(cjson.decode('01'))
return tostring(cjson.decode('0x1F'))
return tostring(cjson.decode('-0x1F'))
return tostring(cjson.decode('+1'))
return tostring(cjson.decode('nan'))
return tostring(cjson.decode('NaN'))
return tostring(cjson.decode('inf'))
return tostring(cjson.decode('-inf'))
return tostring(cjson.decode('Infinity'))
return tostring(cjson.decode('infinit'))
return tostring(cjson.decode('nope'))
return tostring(cjson.decode('-'))
return tostring(cjson.decode('1.'))
return tostring(cjson.decode('.5'))
return tostring(cjson.decode('-.5'))
return tostring(cjson.decode('1e'))
return tostring(cjson.decode('1e+'))
return tostring(cjson.decode('1.5.5'))
return tostring(cjson.decode('1 2'))
return tostring(cjson.decode('0 1'))
return tostring(cjson.decode('true'))
return tostring(cjson.decode('truex'))
return tostring(cjson.decode('tru'))
return tostring(cjson.decode('false'))
return cjson.decode('null')==cjson.null
return cjson.decode('')
return cjson.decode(' ')
return cjson.decode('{')
return cjson.decode('}')
return cjson.decode('[')
return cjson.decode(']')
return cjson.decode('[1')
return cjson.decode('[1,')
return cjson.decode('[1,]')
return cjson.decode('[,1]')
return cjson.decode('[1 2]')
return cjson.decode('[1,2,3]')
return cjson.decode('[]')
return cjson.decode('{}')
return cjson.decode('[[],[1,[2]]]')
return cjson.decode('{"a":1}').a
return cjson.decode('{"a":{"b":[1,2]}}').a.b
return cjson.decode('{"a" 1}')
return cjson.decode('{"a":}')
return cjson.decode('{"a":1')
return cjson.decode('{"a":1,}')
return cjson.decode('{"a":1 "b":2}')
return cjson.decode('{1:1}')
return cjson.decode('{a:1}')
return cjson.decode('{,}')
return cjson.decode('{"a":1}}')
return cjson.decode('[1]]')
return cjson.decode('"abc"')
return cjson.decode('"abc')
return cjson.decode('"abc\\')
return cjson.decode('"\\x"')
return cjson.decode('"a\\x"')
return cjson.decode('"\\u00e9\\n\\t\\b\\f\\r\\/\\\\\\""')
return cjson.decode('"\\u12"')
return cjson.decode('"\\u123g"')
return cjson.decode('"\\ud800"')
return cjson.decode('"\\udc00"')
return cjson.decode('"\\ud83d\\ude00"')
return cjson.decode('"\\ud83d\\u0041"')
return cjson.decode('"\\u20ac\\u0000x"')
return #cjson.decode('"\\u0000x"')
return cjson.decode('"a\nb"')
return cjson.decode('@')
return cjson.decode('[@]')
return cjson.decode('\0')
return cjson.decode('a\0')
return cjson.decode('\0\0')
return cjson.decode('1\0')
return cjson.decode('[1\0]')
return cjson.decode('"a\0b"')
return cjson.decode(' \t\n\r1 \t\n\r')
return cjson.decode('\v1')
return cjson.decode(1)
return cjson.decode(nil)
return cjson.decode({})
return cjson.decode()
return cjson.decode('1','2')
return cjson.decode(string.rep('[',1001)..string.rep(']',1001))
return cjson.decode(string.rep('{"a":',1001)..'1'..string.rep('}',1001))
return cjson.decode('[1,null,3]')
local t=cjson.decode('[1,null,3]') return #t
return cjson.decode('{"1":2}')['1']
return cjson.decode('9007199254740993')
return tostring(cjson.decode('1e400'))
return tostring(cjson.decode('123456789012345678901234567890'))
return cjson.encode(cjson.decode('{"a":[1,2,{"b":null}],"c":"x"}').a)
return cjson.encode_max_depth()
return cjson.encode_max_depth(0)
return cjson.encode_max_depth('x')
return cjson.encode_max_depth(5)
return cjson.encode_max_depth()
return cjson.encode({{{{{1}}}}})
return cjson.encode({{{{{{1}}}}}})
return cjson.encode_max_depth(1000)
return cjson.encode_max_depth(1,2)
return cjson.decode_max_depth(2)
return cjson.decode('[[1]]')
return cjson.decode('[[[1]]]')
return cjson.decode('[ [ {"x":1}]]')
return cjson.decode_max_depth(1000)
return {cjson.encode_sparse_array()}
return {cjson.encode_sparse_array(true)}
return cjson.encode({[1]=1,[200]=2})
return {cjson.encode_sparse_array(false,2,10)}
return {cjson.encode_sparse_array(1)}
return {cjson.encode_sparse_array('x')}
return {cjson.encode_sparse_array(true,-1)}
return {cjson.encode_sparse_array(true,'x')}
return {cjson.encode_sparse_array(true,1,2,3)}
return {cjson.encode_sparse_array(false,0,10)}
return cjson.encode({[1]=1,[200]=2})
return {cjson.encode_sparse_array(false,2,10)}
return cjson.encode_number_precision()
return cjson.encode_number_precision(3)
return cjson.encode(1/3)
return cjson.encode_number_precision(14)
return cjson.encode_number_precision(15)
return cjson.encode_number_precision(17)
return cjson.encode_number_precision(0)
return cjson.encode_keep_buffer()
return cjson.encode_keep_buffer(false)
return cjson.encode_keep_buffer('on')
return cjson.encode_keep_buffer('x')
return tostring(cjson.encode_invalid_numbers())
return tostring(cjson.encode_invalid_numbers(true))
return cjson.encode({1/0,-1/0})
return cjson.encode_invalid_numbers('null')
return cjson.encode({1/0,0/0})
return tostring(cjson.encode_invalid_numbers('x'))
return tostring(cjson.encode_invalid_numbers(false))
return tostring(cjson.decode_invalid_numbers())
return tostring(cjson.decode_invalid_numbers('off'))
return cjson.decode('0x1')
return cjson.decode('nan')
return cjson.decode('[01]')
return tostring(cjson.decode_invalid_numbers('null'))
return tostring(cjson.decode_invalid_numbers('on'))
local c=cjson.new() c.encode_max_depth(3) return cjson.encode_max_depth()
return cjson._NAME..cjson._VERSION
local ok,e=pcall(cjson.decode,'[') return e
local ok,e=pcall(cjson.encode,{[1]=1,[100]=1}) return e
local ok,e=pcall(function() return cjson.decode('[') end) return e
local f=cjson.decode return f('[')
"""

MESSAGE_PACK = r"""
return cmsgpack.pack(1)
return cmsgpack.pack(-1)
return cmsgpack.pack(127,128,255,256,65535,65536,4294967295,4294967296,2^53,1e18,1e19,2^63,2^62)
return cmsgpack.pack(-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,-2^53,-1e18,-2^63)
return cmsgpack.pack(1.5,0.1,1e300,-0.25,1/0,-1/0)
return cmsgpack.pack('', 'a', string.rep('x',31), string.rep('x',32))
return cmsgpack.pack(string.rep('x',255))
return cmsgpack.pack(string.rep('x',256))
return #cmsgpack.pack(string.rep('x',65536))
return cmsgpack.pack(true,false,nil)
return cmsgpack.pack(nil)
return cmsgpack.pack()
return cmsgpack.pack({})
return cmsgpack.pack({1,2,3})
return cmsgpack.pack({a=1})
return cmsgpack.pack({1,nil,3})
return cmsgpack.pack({[1]=1,[3]=3})
return cmsgpack.pack({[1.5]=1})
return cmsgpack.pack({[0]=1})
return cmsgpack.pack({[-1]=1})
return cmsgpack.pack({{1},{2,{3}}})
return cmsgpack.pack(redis.call)
return cmsgpack.pack(cjson.null)
return cmsgpack.pack(coroutine.create(function() end))
local t={} for i=1,20 do t={t} end return cmsgpack.pack(t)
local t={} t[1]=t return cmsgpack.pack(t)
local t={} for i=1,15 do t[i]=i end return cmsgpack.pack(t)
local t={} for i=1,16 do t[i]=i end return cmsgpack.pack(t)
local t={} for i=1,70000 do t[i]=i end return redis.sha1hex(cmsgpack.pack(t))
return cmsgpack.unpack(cmsgpack.pack(1))
return {cmsgpack.unpack(cmsgpack.pack(1,'x',true,{1,2}))}
return {cmsgpack.unpack('')}
return cmsgpack.unpack('\1\2')
return cmsgpack.unpack('\193')
return cmsgpack.unpack('\196\1a')
return cmsgpack.unpack('\199\1a')
return cmsgpack.unpack('\204')
return cmsgpack.unpack('\205\1')
return {cmsgpack.unpack('\204\200\205\1\0\206\1\0\0\0\207\0\0\0\1\0\0\0\0')}
return {cmsgpack.unpack('\208\200\209\200\0\210\200\0\0\0\211\255\255\255\255\255\255\255\255')}
return tostring(cmsgpack.unpack('\207\255\255\255\255\255\255\255\255'))
return tostring(cmsgpack.unpack('\202\63\128\0\0'))
return tostring(cmsgpack.unpack('\203\63\240\0\0\0\0\0\1'))
return cmsgpack.unpack('\161')
return cmsgpack.unpack('\217\5abc')
return cmsgpack.unpack('\217\3abc')
return cmsgpack.unpack('\218\0\3abc')
return cmsgpack.unpack('\219\0\0\0\3abc')
return cmsgpack.unpack('\147\1\2')
return cmsgpack.unpack('\147\1\2\3')
return cmsgpack.unpack('\220\0\1\1')
return cmsgpack.unpack('\221\0\0\0\1\1')
return cmsgpack.unpack('\129\161a\1').a
return cmsgpack.unpack('\222\0\1\161a\1').a
return cmsgpack.unpack('\223\0\0\0\1\161a\1').a
return cmsgpack.unpack('\129\161a')
return cmsgpack.unpack('\221\255\255\255\255\1')
return {cmsgpack.unpack('\192\195\194\224\255\127')}
return cmsgpack.unpack()
return cmsgpack.unpack({})
return cmsgpack.unpack(5)
return {cmsgpack.unpack_one('\1\2\3')}
return {cmsgpack.unpack_one('\1\2\3',1)}
return {cmsgpack.unpack_one('\1\2\3',2)}
return {cmsgpack.unpack_one('\1\2\3',3)}
return {cmsgpack.unpack_one('\1\2\3',4)}
return {cmsgpack.unpack_one('\1\2\3',-1)}
return {cmsgpack.unpack_one('\1\2\3','x')}
return {cmsgpack.unpack_limit('\1\2\3',2)}
return {cmsgpack.unpack_limit('\1\2\3',0)}
return {cmsgpack.unpack_limit('\1\2\3',0,1)}
return {cmsgpack.unpack_limit('\1\2\3',2,1)}
return {cmsgpack.unpack_limit('\1\2\3',5,1)}
return {cmsgpack.unpack_limit('\1\2\3',-1)}
return {cmsgpack.unpack_limit('\1\2\3')}
return {cmsgpack.unpack_limit('\1\2\3',2,9)}
return cmsgpack._VERSION
"""

BITS = r"""
return bit.tobit(0xffffffff)
return bit.tobit(2^31)
return bit.tobit(1.5)
return bit.tobit(2.5)
return bit.tobit(-1.5)
return bit.tobit(2^40+5)
return bit.tobit('0x10')
return bit.tobit('x')
return bit.tobit()
return bit.tobit({})
return bit.bnot(0)
return bit.bnot(5)
return bit.band(0xff,0x0f)
return bit.band(0xff)
return bit.band()
return bit.band(1,'x')
return bit.band(1,nil)
return bit.band(1,3,5)
return bit.bor(1,2,4,0x80000000)
return bit.bxor(0xffffffff,1)
return bit.lshift(1,31)
return bit.lshift(1,32)
return bit.lshift(1,33)
return bit.lshift(1,-1)
return bit.lshift(1)
return bit.rshift(-1,1)
return bit.rshift(-1,31)
return bit.arshift(-256,4)
return bit.arshift(256,4)
return bit.rol(0x12345678,12)
return bit.ror(0x12345678,12)
return bit.rol(0x12345678,0)
return bit.bswap(0x12345678)
return bit.bswap(0x78563412)
return bit.tohex(255)
return bit.tohex(-1)
return bit.tohex(255,4)
return bit.tohex(255,-4)
return bit.tohex(255,0)
return bit.tohex(0x12345678,20)
return bit.tohex(0x12345678,-20)
return bit.tohex(255,'x')
return {pcall(bit.band)}
"""

STRUCT = r"""
return struct.pack('>I2h',1,2)
return struct.pack('<i4>i4',1,1)
return struct.pack('bBhHlLTfd',1,2,3,4,5,6,7,8.5,9.25)
return struct.pack('>bBhHlLTfd',-1,200,-3,4,-5,6,7,8.5,9.25)
return struct.pack('i',-1)
return struct.pack('I',-1)
return struct.pack('I',2^32-1)
return struct.pack('I8',2^63)
return struct.pack('i3',70000)
return struct.pack('i16',-2)
return struct.pack('>i16',5)
return struct.pack('i33',1)
return struct.pack('i0',1)
return struct.pack('s','abc')
return struct.pack('c2','abc')
return struct.pack('c0','abc')
return struct.pack('c','abc')
return struct.pack('c5','abc')
return struct.pack('x')
return struct.pack('bxxb',1,2)
return struct.pack('!4bi',1,2)
return struct.pack('!bd',1,2)
return struct.pack('!2bi',1,2)
return struct.pack('!3bi',1,2)
return struct.pack('!16bi',1,2)
return struct.pack('! b i',1,2)
return struct.pack('q',1)
return struct.pack('i','x')
return struct.pack('i')
return struct.pack()
return struct.pack(1)
return struct.pack('i','12')
return struct.pack('i',1.9)
return struct.pack('i',-1.9)
return struct.pack('s')
return struct.pack('s',12)
return struct.pack('s',{})
return struct.pack('i99999999999',1)
return struct.pack('b',300)
return struct.pack('f',1e300)
return {struct.unpack('>I2h','\0\1\0\2')}
return {struct.unpack('<i4','\255\255\255\255')}
return {struct.unpack('<I4','\255\255\255\255')}
return {struct.unpack('<i2','\0\128')}
return {struct.unpack('<i8','\255\255\255\255\255\255\255\255')}
return tostring((struct.unpack('<I8','\255\255\255\255\255\255\255\255')))
return tostring((struct.unpack('L','\255\255\255\255\255\255\255\255')))
return tostring((struct.unpack('<d','\0\0\0\0\0\0\248\63')))
return tostring((struct.unpack('>f','\63\192\0\0')))
return {struct.unpack('s','abc\0def')}
return {struct.unpack('s','abc')}
return {struct.unpack('c2','abc')}
return {struct.unpack('bc0','\3abcd')}
return {struct.unpack('c0','abc')}
return {struct.unpack('bc0','\9abcd')}
return {struct.unpack('sc0','a\0b')}
return {struct.unpack('i','abc')}
return {struct.unpack('b','abc',2)}
return {struct.unpack('b','abc',3)}
return {struct.unpack('b','abc',4)}
return {struct.unpack('b','abc',0)}
return {struct.unpack('b','abc',-1)}
return {struct.unpack('b','abc','x')}
return {struct.unpack('bxb','abc')}
return {struct.unpack('!4bi','a\0\0\0\1\0\0\0')}
return {struct.unpack('q','abc')}
return {struct.unpack('b')}
return {struct.unpack()}
return {struct.unpack('b',{})}
return {struct.unpack('>i16',string.rep('\0',15)..'\5')}
return {struct.unpack('<i16',string.rep('\255',16))}
return {struct.unpack('','abc')}
return struct.size('bBhHlLTfd')
return struct.size('!bd')
return struct.size('!4bic3')
return struct.size('s')
return struct.size('c0')
return struct.size('i3')
return struct.size('q')
return struct.size()
return struct.size('x x')
return {pcall(struct.pack,'q',1)}
"""
