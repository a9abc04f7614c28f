"""Makes tests/data/jinja/cases.json: small templates, their input and what Jinja2 makes of them.

The environment is the one in which Hugging Face transformers renders chat templates, built from its documentation:
ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, loop controls, a `generation` tag that yields its body,
`tojson` as json.dumps(ensure_ascii=False, ...), raise_exception and strftime_now (here at a fixed time).

    python3 tests/oracle/make_jinja_cases.py            writes the file (needs jinja2 3.1 on Python 3.11)
    python3 tests/oracle/make_jinja_cases.py --check    fails when the file would change
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "jinja" / "cases.json"


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENV = environment()


def outcome(template, context):
    """{"text"} | {"syntax": message} | {"error": message}"""
    try:
        compiled = ENV.from_string(template)
    except jinja2.TemplateSyntaxError as e:
        return {"syntax": e.message}
    except SyntaxError as e:
        return {"syntax": e.msg}
    try:
        return {"text": compiled.render(**context)}
    except Exception as e:  # whatever Python raises, its message is what users see
        return {"error": str(e)}


# The input of every template that brings none of its own.
CONTEXT = {
    "s": "Hello, World", "e": "", "u": "Zürich 漢字 🎉 ß", "w": "  pad\t\n", "q": "it's \"quoted\" \\ <b>&</b>",
    "lines": "one\ntwo\r\n\n  three", "i": 7, "n": -3, "z": 0, "f": 2.5, "g": 1e22, "t": True, "no": None,
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "mixed": [1, "a", None, 2.0, True], "nest": [[1, 2], [3, [4]]], "empty": [],
    "d": {"b": 1, "a": 2, "C": 3}, "dn": {"x": {"y": [10, 20]}, "items": "shadow", "1": "one"}, "ed": {},
    "people": [{"name": "Ann", "age": 30, "city": "X"}, {"name": "bob", "age": 25, "city": "Y"},
               {"name": "Cid", "age": 30, "city": "x"}, {"name": "dan", "city": "Y"}],
    "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": " Hi \n"},
                 {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": "x"}}]}],
}

# Expressions, each printed by a template of its own.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
(1 + 2) * 3
2 ** 3 ** 2
-2 ** 2
- 2 | abs
-i
+i
--i
7 // 2
-7 // 2
7 // -2
7 % 3
-7 % 3
7 % -3
7 / 2
6 / 3
1 / 3
0.1 + 0.2
1e3
1e16
1e15
123456789012345680.0
1e-5
0.0001
2.0 ** 0.5
2 ** -1
7.5 // 2
-7.5 % 2
7.5 % -2
-0.0
0.0 * -1
1_000_000
0x1f
0o17
0b101
1.5e3
10 // 3.0
i / z
i // z
i % z
f / z
f // z
f % z
z ** -1
true + 1
true / 2
"a" + "b"
"a" ~ 1 ~ none ~ true ~ 2.0
"a" ~ l ~ d
1 ~ 2 + 3
"a" * 3
3 * "ab"
"a" * 0
"a" * -1
[1] * 2
2 * (1, 2)
[1] + [2]
(1,) + (2,)
"a" + 1
1 + "a"
[1] + (2,)
none + 1
1 + none
{} + {}
"a" - "b"
"a" * "b"
"a" * 1.5
[1] - [1]
-"a"
+none
1 < 2
1 < 2 < 3
1 < 3 < 2
3 > 2 > 1
1 < 2 > 0 == 0
1 == 1.0
true == 1
"1" == 1
none == none
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{"a": 1} == {"a": 1.0}
{"a": 1, "b": 2} == {"b": 2, "a": 1}
"a" < "b"
"a" < "B"
[1, 2] < [1, 3]
[1] < [1, 0]
(1, "a") < (1, "b")
1 < "a"
"a" > 1
none < 1
[1] < 1
[1, "a"] < [1, 2]
{} < {}
1 != 2
1 in [1, 2]
4 not in [1, 2]
"ell" in s
"" in s
1 in s
"a" in d
"zz" in d
2 in d.values()
"a" in d.keys()
("a", 2) in d.items()
[1] in d
1 in 5
1 in none
none in [none]
3 in range(5)
5 in range(5)
2.0 in range(5)
not true
not not 1
not 1 == 2
not e
1 and 2
0 and 2
0 or "x"
"" or 0
1 and 0 or 3
none or e or "last"
not (1 and 0)
true and not false
1 if true else 2
1 if false else 2
1 if false
(1 if false) is defined
"a" if e else "b" if z else "c"
1 if i > 5 else 2 if i > 3 else 3
"x" if undefined_thing else "y"
(1, 2)
(1,)
()
(1)
1, 2
[]
[1, "a", none, true, 1.5]
[1, 2,]
{}
{"a": 1, "b": [1, {"c": 2}]}
{"a": 1,}
{1: 2, none: 3, true: 4, (1, 2): 5}
{"a": 1, "a": 2}
{1: "x", true: "y", 1.0: "z"}
{[1]: 2}
{{}: 2}
"it's"
["it's", 'say "hi"', "both ' and \"", "back\\slash", "tab\t nl\n", "é漢🎉", "\x00\x1f\x7f\x80\xad\u200b\u2028"]
'a' 'b' "c"
"\x41\u00e9\U0001F389\101\a\b\f\v\q"
"\u00e9"
"é\é"
u
u[0]
u[1]
u[-1]
u[7]
u[100]
u|length
s[0]
s[-1]
s[1:4]
s[:5]
s[7:]
s[-5:]
s[::-1]
s[::2]
s[10:2:-3]
s[100:]
s[2:1]
u[1:9]
u[::-1]
u[::3]
l[0]
l[-1]
l[5]
l[5] is defined
l["a"]
l[1:]
l[:-1]
l[::-1]
l[::2]
l[-100:100]
l[1.0]
l[true]
l[:"a"]
l[undefined_thing:]
l[none:2]
l[::0]
(1, 2, 3)[1:]
range(10)[2:8:2]
range(10)[3]
range(10)[-1]
range(10)[::-1]
range(3)
range(1, 10, 3)
range(5, 0, -2)|list
range(0)|list
range(3) == range(0, 3, 1)
range()
range("a")
range(1, 2, 0)
range(1000000)
range(100001)
range(100000)|length
d["a"]
d.a
d["zz"]
d.zz
d.zz.y
d["zz"]["y"]
d[0]
dn.x.y
dn.x.y[1]
dn.x.y.1
dn["x"]["y"][0]
dn.items
dn["items"]
dn.items()
dn.keys()
d.values()
d.items()|list
d.items()[0]
d.items()|length
d|list
d|length
d.get("a")
d.get("zz")
d.get("zz", 5)
d.get()
d.get([1])
d.pop("a")
d.update({"x": 1})
d.clear()
d.setdefault("q", 1)
d.update
d.append
d.copy()
l.append(4)
l.append
l.pop()
l.sort()
l.index(1)
l.index(9)
l.count(3)
l.copy()
l.nothing
l.__class__
s.__class__
s.__class__.__mro__
d.__init__
i.real
i.bit_length()
f.is_integer()
no.x
no["x"]
no.x.y
i.x
i[0]
i["x"]
i[1:2]
no[1:2]
d[1:2]
undefined_thing
undefined_thing.x
undefined_thing["x"]
undefined_thing[0]
undefined_thing[1:]
undefined_thing()
undefined_thing + 1
1 + undefined_thing
"a" + undefined_thing
undefined_thing ~ "a"
-undefined_thing
undefined_thing < 1
1 < undefined_thing
undefined_thing == undefined_thing
undefined_thing == none
undefined_thing == 1
undefined_thing in [1]
1 in undefined_thing
"a" in undefined_thing
undefined_thing in "abc"
undefined_thing|list
undefined_thing|length
undefined_thing|upper
undefined_thing|default("x")
undefined_thing|int
undefined_thing|float
undefined_thing|string
undefined_thing|join(",")
undefined_thing|first
undefined_thing|last
undefined_thing|tojson
undefined_thing|map("upper")|list
undefined_thing|items|list
undefined_thing|dictsort
undefined_thing|sort
undefined_thing|trim
undefined_thing|indent
undefined_thing|round
undefined_thing|abs
undefined_thing|replace("a", "b")
undefined_thing|select|list
undefined_thing|sum
undefined_thing|min
undefined_thing|unique|list
undefined_thing|reverse|list
undefined_thing|batch(2)|list
undefined_thing is defined
undefined_thing is undefined
undefined_thing.x is defined
d.zz is defined
d.zz is none
d.a is defined
[undefined_thing]
{"a": undefined_thing}
[undefined_thing]|tojson
s()
d()
none()
s.upper
s.nothing()
s.upper()
s.lower()
s.title()
s.capitalize()
s.swapcase()
s.casefold()
u.upper()
u.lower()
u.title()
u.capitalize()
"ΑΣ ΑΣΑ Σ".lower()
"ﬁne ŉ ǆ".title()
"İI".lower()
"they're bill's".title()
"they're bill's (now) a-b {x}"|title
w.strip()
w.lstrip()
w.rstrip()
w|trim
"xxaxx".strip("x")
"xyaxy".strip("yx")
"xxaxx".lstrip("x")
"xxaxx".rstrip("x")
"xxaxx"|trim("x")
"ééaé".strip("é")
"a".strip(1)
"a".strip("a", "b")
"a".strip(none)
" a ".strip()
"a,b,,c".split(",")
"a,b,,c".split(",", 1)
"a,b,,c".split(",", maxsplit=2)
"a,b,,c".rsplit(",", 1)
"a b  c\td\n".split()
"a b  c\td\n".split(none, 1)
"  a b  c ".rsplit(none, 1)
"  ".split()
"".split(",")
"".split()
"abc".split("")
"abc".split(1)
"aXXbXXc".split("XX")[-1]
"a b c".split(" ", 0)
"a\nb\r\nc\rd\x0be\u2028f\n".splitlines()
"a\nb\n".splitlines(true)
"a\nb".splitlines(keepends=true)
"".splitlines()
"key=value=x".partition("=")
"key=value=x".rpartition("=")
"none".partition("=")
"none".rpartition("=")
s.startswith("Hello")
s.startswith("World")
s.startswith(("x", "H"))
s.startswith("l", 2)
s.startswith("H", 1)
s.endswith("World")
s.endswith(("x", "d"))
s.endswith("o", 0, 5)
s.startswith(1)
s.startswith()
s.find("o")
s.find("o", 5)
s.find("zz")
s.find("o", 5, 8)
s.rfind("o")
s.index("W")
s.index("zz")
s.rindex("o")
s.count("l")
s.count("")
"aaaa".count("aa")
u.find("漢")
u.rfind("h")
u.count("🎉")
s.replace("l", "L")
s.replace("l", "L", 1)
s.replace("", "-")
"ab".replace("", "-", 2)
s.replace("zz", "-")
s.replace("o", "")
s.replace("l")
s.replace(1, 2)
s|replace("l", "L")
s|replace("l", "L", 1)
s|replace("", "-")
s|replace("o", 0)
i|replace(7, "seven")
s|replace("l")
s|replace("a", "b", count=1)
", ".join(ls)
"".join(["a"])
"-".join("abc")
"-".join(d)
",".join(l)
",".join(5)
",".join([])
"abc".center(7)
"abc".center(8, "*")
"abcd".center(7, "*")
"abc".ljust(5, ".")
"abc".rjust(5, ".")
"abc".ljust(2)
"abc".center(7, "ab")
"42".zfill(5)
"-42".zfill(5)
"+42".zfill(2)
"a\tb".expandtabs()
"a\tb\n\tc".expandtabs(4)
"prefix-x".removeprefix("prefix-")
"x.py".removesuffix(".py")
"abc".isalpha()
"ab1".isalnum()
"123".isdigit()
"12.3".isdigit()
"²".isdigit()
"²".isdecimal()
"½".isnumeric()
"".isdigit()
"abc".islower()
"aBc".islower()
"ABC1".isupper()
"Ab Cd".istitle()
"  ".isspace()
"a_1".isidentifier()
"1a".isidentifier()
"é".isascii()
"a\n".isprintable()
"é漢".isalpha()
"{} {}".format(1, "a")
"{0} {1} {0}".format("x", "y")
"{a} {b}".format(a=1, b=2)
"{:>5}|{:<5}|{:^5}|".format(1, 2, 3)
"{:>5}|{:<5}|{:^5}|{:*^7}|".format("a", "b", "c", "d")
"{:05d} {:+d} {:x} {:X} {:o} {:b} {:#x} {:,}".format(42, 42, 255, 255, 8, 5, 255, 1234567)
"{:.2f} {:.0f} {:e} {:g} {:%} {:10.3f}|".format(3.14159, 2.5, 12345.678, 0.0001, 0.25, 2.5)
"{:.3}".format("abcdef")
"{!r} {!s}".format("a", "b")
"{:{}}|".format("a", 5)
"{{}} {{x}}".format()
"{a[x][y][1]} {b.real}".format(a=dn, b=5)
"{} {1}".format(1, 2)
"{} {}".format(1)
"{x}".format()
"{".format()
"}".format()
"{:d}".format("a")
"{:s}".format(1)
"{:5}".format(none)
"{}".format(none)
"{:5}|{}".format(true, true)
"{:d}".format(1.5)
"{0.__class__}".format(1)
"{a}".format_map({"a": 1})
"%s and %s" % ("a", 1)
"%s" % "x"
"%s" % l
"%d %i %5d|%-5d|%05d %+d" % (1, 2.7, 3, 4, 5, 6)
"%.2f %e %g %5.1f|" % (3.14159, 12345.678, 0.00001, 2.55)
"%x %X %o %#x %c %c" % (255, 255, 8, 255, 65, "z")
"%r %s %%" % ("a", none)
"%(a)s %(b)d" % {"a": "x", "b": 2}
"%5s|%-5s|%.2s|" % ("ab", "ab", "abcdef")
"%s %s" % "x"
"%s" % ("a", "b")
"%d" % "a"
"%y" % 1
"%" % 1
"%*d" % (5, 42)
"x" % {}
"x" % 1
"%s" % (1,)
"%s %s"|format("a", "b")
"%(x)s"|format(x=5)
"%.1f"|format(2.25)
"%s"|format
upper(s)
s|upper
s|lower
s|capitalize
s|title
u|upper
i|upper
none|upper
l|upper
s|length
i|length
none|length
d|count
s|first
s|last
l|first
l|last
empty|first
empty|last
empty|first is defined
d|first
d|last
i|first
i|last
(l|map("string")|first)
l|map("string")|last
l|sort
l|sort(reverse=true)
ls|sort
ls|sort(case_sensitive=true)
ls|sort(true)
mixed|sort
people|sort(attribute="name")|map(attribute="name")|list
people[:3]|sort(attribute="age,name")|map(attribute="name")|join(" ")
people[:3]|sort(attribute="age", reverse=true)|map(attribute="name")|join(" ")
people|sort(attribute="age")|list
nest|sort(attribute="0")
nest|map(attribute=0)|list
nest|map(attribute="1.0")|list
d|dictsort
d|dictsort(true)
d|dictsort(by="value")
d|dictsort(false, "value", true)
d|dictsort(reverse=true)
d|dictsort(by="x")
l|dictsort
d|items|list
l|items|list
l|join
l|join(", ")
l|join(d="-")
ls|join("|")
people|join(",", attribute="name")
mixed|join("/")
s|join("-")
i|join
d|join(",")
l|reverse|list
s|reverse
u|reverse
i|reverse
d|reverse|list
(1, 2)|reverse|list
l|sum
l|sum(start=10)
people[:3]|sum(attribute="age")
ls|sum
[0.1, 0.2]|sum
l|min
l|max
ls|min
ls|max(case_sensitive=true)
empty|min
mixed|max
people[:3]|max(attribute="age")
l|unique|list
[1, 1.0, true, "a", "A", none, none]|unique|list
["a", "A"]|unique(true)|list
people|unique(attribute="city")|map(attribute="name")|list
nest|unique|list
people|groupby("city")
people|groupby("city", case_sensitive=true)|map(attribute="grouper")|list
people|groupby("age", default=0)|list
(people|groupby("city"))[0].list|length
people|groupby("age")
range(7)|batch(3)|list
range(7)|batch(3, "x")|list
range(7)|batch(0)|list
range(7)|slice(3)|list
range(7)|slice(3, "x")|list
range(7)|slice(0)|list
l|map("string")|list
ls|map("upper")|list
ls|map("replace", "a", "z")|list
people|map(attribute="name")|map("lower")|list
people|map(attribute="age", default=0)|list
people|map(attribute="age")|list
people|map("nope")|list
people|map()|list
people|map(attribute="a", x=1)|list
d|map("upper")|list
l|map("string")|length
l|map("string")
(l|map("string")) is sequence
l|select("odd")|list
l|select|list
[0, 1, "", "a", none]|select|list
l|reject("odd")|list
[0, 1, "", "a", none]|reject|list
l|select("gt", 1)|list
l|select(">", 1)|list
l|select("in", [1, 2])|list
l|select("nope")|list
l|reject("equalto", 2)|list
people|selectattr("age")|map(attribute="name")|list
people|selectattr("age", "defined")|map(attribute="name")|list
people|selectattr("age", "equalto", 30)|map(attribute="name")|list
people|selectattr("age", "eq", 30)|list|length
people|rejectattr("age", "undefined")|map(attribute="name")|list
people|rejectattr("age", "gt", 26)|map(attribute="name")|list
people|selectattr("age", "gt", 26)|list
people|selectattr()|list
messages|selectattr("role", "equalto", "user")|map(attribute="content")|first
messages|selectattr("role", "in", ["user", "system"])|list|length
messages|rejectattr("role", "equalto", "system")|list|length
messages|map(attribute="role")|unique|join(",")
"yes" if people|selectattr("age", "equalto", 99) else "no"
"yes" if people|selectattr("age", "equalto", 99)|list else "no"
l|list
s|list
u|list
d|list
i|list
none|list
no|default("x")
no|default("x", true)
e|default("x")
e|default("x", true)
e|d("x", boolean=true)
undefined_thing|d
undefined_thing|default
z|default(5, true)
s|string
i|string
l|string
none|string
d|string
t|string
"42"|int
" 42 "|int
"42.9"|int
"x"|int
"x"|int(5)
"x"|int(default=9)
"0x1f"|int(base=16)
"1f"|int(0, 16)
"0b11"|int(0, 0)
"1_000"|int
"-7"|int
"1e3"|int
"inf"|int
"nan"|int(3)
2.9|int
-2.9|int
true|int
none|int
l|int
"2.5"|float
"x"|float
"x"|float(1.5)
"1e-3"|float
"inf"|float
"-Infinity"|float
" 1_0.5 "|float
3|float
none|float
2.5|round
3.5|round
2.675|round(2)
1234.5678|round(-2)
1234|round(-2)
1250|round(-2)
1350|round(-2)
7|round
7|round(2)
2.1|round(method="ceil")
2.9|round(0, "floor")
-2.5|round
2.123|round(2, "ceil")
2.5|round(method="x")
"a"|round
-5|abs
-5.5|abs
"a"|abs
true|abs
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, true, true)
lines|indent(width=3, blank=true)
lines|indent("> ")
lines|indent("> ", first=true)
""|indent(2, true)
"a\n"|indent(2)
5|indent
s|center(20)
s|center(3)
s|truncate(8)
s|truncate(5, true)
s|truncate(9, true, "", 0)
s|truncate(8, end="~", leeway=0)
s|truncate(1)
"a b c d e f g h"|truncate(9, leeway=0)
s|wordcount
"it's a_b 漢字 x-y"|wordcount
q|e
q|escape
q|e|e
q|forceescape
q|safe
q|safe + "<x>"
"<x>" + q|e
(q|e)|upper
[q|e]
(q|e) is escaped
q is escaped
("<a>"|safe)|replace("a", "<b>")
("%s"|safe) % "<i>"
("{}"|safe).format("<i>")
("-"|safe).join(["<", ">"])
"a b&c/d?é"|urlencode
{"a b": "c&d", "e": 1}|urlencode
[("x", 1), ("y", "z z")]|urlencode
{"class": "a b", "id": none, "x": 1, "q": "\"<>"}|xmlattr
{}|xmlattr
{"a b": 1}|xmlattr
1|filesizeformat
999|filesizeformat
1000|filesizeformat
1500000|filesizeformat
1500000|filesizeformat(true)
s|attr("upper")
d|attr("a")
d|attr("items")
l|tojson
d|tojson
s|tojson
u|tojson
u|tojson(ensure_ascii=true)
q|tojson
"\x00\x1f\x7f\u2028</script>"|tojson
"\x7f"|tojson(ensure_ascii=true)
none|tojson
true|tojson
f|tojson
g|tojson
1e400|tojson
(1, 2)|tojson
[]|tojson
{}|tojson
[]|tojson(indent=2)
{}|tojson(indent=2)
dn|tojson(indent=2)
dn|tojson(indent=0)
dn|tojson(indent="--")
messages|tojson(indent=4)
dn|tojson(separators=(",", ":"))
dn|tojson(separators=(",", ":"), indent=1)
d|tojson(sort_keys=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1, 2): 3}|tojson
{1: 2, "a": 3}|tojson(sort_keys=true)
range(3)|tojson
d.items()|tojson
l|map("string")|tojson
namespace(a=1)|tojson
d|tojson(4)
d|tojson(nope=1)
d|nope
d is nope
i is odd
i is even
i is divisibleby 7
i is divisibleby(2)
i is divisibleby
"a" is odd
none is even
f is odd
i is number
f is number
t is number
s is number
i is integer
t is integer
f is integer
f is float
i is float
t is boolean
i is boolean
t is true
no is false
no is none
no is not none
s is string
i is string
u is string
d is mapping
l is mapping
no is mapping
l is sequence
s is sequence
d is sequence
i is sequence
undefined_thing is sequence
range(3) is sequence
l is iterable
s is iterable
i is iterable
none is iterable
d.items() is iterable
namespace() is iterable
range is callable
s.upper is callable
s is callable
undefined_thing is callable
"abc" is lower
"ABC" is upper
"aBC" is upper
"" is lower
5 is lower
i is eq 7
i is equalto 7
i is ==(7)
i is ne 7
i is gt 5
i is ge 7
i is lt 5
i is le 7
i is greaterthan 5
i is lessthan 5
i is sameas 7
no is sameas none
l is sameas l
i is in [7]
"a" is in "abc"
"upper" is filter
"nope" is filter
"odd" is test
"nope" is test
i is not odd
not i is odd
i is odd and f is float
i is defined and i > 5
i is string or i is number
i is divisibleby 7 and true
(i is odd) is true
i is odd is even
d.a is defined and d.a == 2
[i is odd, 1]
namespace(a=1, b="x")
namespace(a=1).a
namespace(a=1).b
namespace({"a": 1}).a
namespace(a=1)["a"]
namespace(1)
dict(a=1, b=2)
dict({"a": 1}, b=2)
dict([("a", 1)])
dict([1])
dict(**d)
dict(1, 2)
cycler("a", "b").next()
cycler()
joiner()()
joiner("|")
lipsum is defined
raise_exception("boom " ~ i)
raise_exception()
raise_exception(message="x")
strftime_now("%Y-%m-%d")
strftime_now("%d %b %Y %H:%M:%S %p %j %A %B %y %a %I %U %W %w %u %G %V %e %%")
strftime_now("%-d %B, %Y")
strftime_now("")
strftime_now(1)
loop
caller
varargs
messages[0]["role"]
messages[-1].tool_calls[0].arguments
messages[2].content is none
messages[1].content|trim
messages[0].role == "system" and messages[0].content or ""
messages[1:]|length
messages[-1]["tool_calls"] is defined
messages[0].nope is defined
messages[5].role
(messages|last).role
messages|length % 2
messages[2].tool_calls[0].arguments|tojson
messages[2].tool_calls is iterable and messages[2].tool_calls is not mapping
range(3)|map("string")|join(", ")
[1, 2, 3]|map("string")|join
"abc"|list|reverse|join
"a-b"|replace("-", "_")|upper
s.split(", ")[1].lower()[0:3]
(s ~ "!")|length
[1, 2][0]
{"a": 1}["a"]
{"a": 1}.a
"abc"[1]
(1, 2)[0]
"a".upper().lower().strip()
s.upper()[0:2]|lower
[[1, 2], [3]]|sum(start=[])
1.0|string
100|string|length
1.0 == 1
1e0
.5
5.
1.a
"unclosed
'unclosed
{
)
(]
1 +
* 2
a b
a..b
a.
a[
a[]
a[1, 2]
f(
f(1
f(a=1, 2)
f(**d, 1)
f(*l, *l)
| upper
s |
s | 5
s is
not
if
1 if
1 if true else
a := 1
a = 1
!a
a!
a @ b
a && b
$
`x`
"\x4"
"\u12"
"" ""
"a" "b" 1
s|upper()
s|upper(1)
s|trim("x", 1)
s|trim(x=1)
s|default(1, 2, 3)
s|replace()
s|join(1, 2, 3, 4)
s.upper(1)
s.upper(x=1)
s.replace("a", "b", "c", "d")
range(3, x=1)
s|upper|lower|title
[1, 2, 3][1:][0]
d|dictsort|map("first")|list
d|dictsort|map("last")|sum
d|map("length")|list
messages|map("dictsort")|first
"é" < "f"
"a" == "a "
1 == 1 == 1
1 < 2 and 2 < 3
[] == []
[] is sameas []
"" is none
0 is false
"a" in ["a"] in [[true]]
[1, 2] | length > 1
s | length == 12
-1 | abs + 1
2 * 3 | string
(2 * 3) | string
"a" ~ "b" | upper
not s | length
i + 1 | string
i is odd or i
i if i is odd else 0
9223372036854775807
-9223372036854775807 - 1
9007199254740993 == 9007199254740992.0
1e308 * 10
-1e308 * 10
(1e308 * 10) - (1e308 * 10)
5 // 0.3
-5 // 0.3
5 % 0.3
-5 % 0.3
1e-7
123456.789e3
1.10
100000000000000000.0
0.1 * 3
3.0 * 1.1
1 / 7
10 ** 10
10.0 ** 20
(-8) ** 2
2 ** 62
""".strip("\n").split("\n")

# Templates with statements, whitespace control and several constructs at once.
TEMPLATES = [
    # whitespace
    "a\n", "a\n\n", "\n", "a\r\nb\rc\n", "  {{ i }}  \n  {{ i }}\n",
    "{% if t %}\n  x\n{% endif %}\ny", "  {% if t %}  \n  x\n  {% endif %}  \ny", "a {% if t %} b {% endif %} c",
    "a  {%- if t -%}  b  {%- endif -%}  c", "a\n  {%- if t %}\nb\n{% endif -%}\n  c", "a\n  {{- i }}\n", "{{ i -}}\n  b",
    "a\n  {%+ if t %}\nb\n  {%+ endif %}\nc", "{% if t +%}\nx\n{% endif +%}\ny", "a\n    {#- c -#}\n  b", "a\n  {# c #}\n  b",
    "a {# c #} b", "{#+ c +#}\nb", "{# multi\nline #}\nx", "{##}x", "{#-#} x", "a\n\t {% set x = 1 %}\n{{ x }}", "x{% set x = 1 %}\ny",
    "{{ '\n' }}\n", "{{ 'a\nb' }}", "  {% raw %}  {{ x }}  {% endraw %}\n y", "{% raw %}\n{% if %}\n{% endraw %}\nx",
    "a {%- raw -%}  b {{ {%- endraw -%}  c", "{%raw%}{{{%endraw%}", "{% raw %}{% endraw", "{% raw x %}{% endraw %}",
    "{{ '{{' }} {{ '}}' }} {{ '{%' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}}}", "{{ [1, 2]|join(',')}}", "{ { % % } } {", "{", "{a", "%}",
    "}}", "#}", "{{", "{%", "{#", "{{ i", "{% if t", "{# x", "{{ i }", "{% if t }", "{{ }}", "{% %}", "{%%}", "{{ i }}}", "a\u00a0\n \u2003{% if t %}x{% endif %}",
    "\ufeffx", "a\x0b\n  {%- if t -%}\x0c b{% endif %}", "x\n\n\n{%- if t %}y{% endif %}\n\n\n", "line1\n  {% if t %}\n    {% if t %}\n deep\n    {% endif %}\n  {% endif %}\nend",
    "{%- if t -%}\n\n a \n\n{%- endif -%}\n\n", "{% if t -%} \n x{% endif %}", " {%- set a = 1 %} {{- a }}", "a{{ i }}\n{{ i }}b\n",
    # if
    "{% if i == 7 %}a{% elif i == 8 %}b{% else %}c{% endif %}", "{% if z %}a{% elif f %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif z %}b{% else %}c{% endif %}", "{% if z %}a{% endif %}", "{% if undefined_thing %}a{% else %}b{% endif %}",
    "{% if not undefined_thing.x %}a{% endif %}", "{% if 1, 2 %}t{% endif %}", "{% if t: %}x{% endif %}", "{% if %}x{% endif %}",
    "{% if t %}x", "{% if t %}x{% endfor %}", "{% if t %}x{% else %}y", "{% else %}", "{% endif %}", "{% elif t %}", "{% if t %}{% for x in l %}{% endif %}{% endfor %}",
    "{% if t %}{{ s|nope }}{% endif %}", "{% if z %}{{ s|nope }}{% endif %}ok", "{% if z %}{% for x in l %}{{ x|nope }}{% endfor %}{% endif %}ok", "{{ s|nope if z else 1 }}",
    "{{ 1 if t else s|nope }}", "{{ s|nope }}", "{% if s is nope %}{% endif %}", "{% set x = s is nope %}", "{% if z %}{{ s is nope }}{% endif %}ok",
    # for
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in ls %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }}/{{ loop.depth0 }} {% endfor %}",
    "{% for x in ls %}{{ loop.previtem|default('-') }}{{ x }}{{ loop.nextitem|default('-') }} {% endfor %}", "{% for x in ls %}{{ loop.previtem }}{% endfor %}",
    "{% for x in [1] %}{{ loop.previtem.x }}{% endfor %}", "{% for x in [1] %}{{ loop.nextitem.x }}{% endfor %}",
    "{% for x in range(6) %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}", "{% for x in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x, 1) }}{{ loop.changed() }} {% endfor %}",
    "{% for x in empty %}a{% else %}none{% endfor %}", "{% for x in l %}{{ x }}{% else %}none{% endfor %}", "{% for x in undefined_thing %}a{% else %}none{% endfor %}",
    "{% for x in none %}a{% endfor %}", "{% for x in 5 %}a{% endfor %}", "{% for c in s %}{{ c }}.{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }} {% endfor %}", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}",
    "{% for a, b in [[1]] %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for a, b in ['xy'] %}{{ a }}{{ b }}{% endfor %}", "{% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, in [[1]] %}{{ a }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}:{{ loop.index }}/{{ loop.length }} {% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}", "{% for x in l if loop.index %}{% endfor %}", "{% for x in l if x %}{{ loop.last }}{% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.first }}{{ m.role }}{% endfor %}", "{% for x in l|sort %}{{ x }}{% endfor %}", "{% for x in l|map('string') %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in l, ls %}{{ x }}{% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}", "{% for x in 1, %}{{ x }}{% endfor %}", "{% for x in l %}{% for y in ls %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in ls[:2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}", "{{ loop.index }}", "{% for x in l %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 9 %}{% for x in l %}{{ x }}{% endfor %}{{ x }}", "{% for x in l %}{% set y = x %}{% endfor %}{{ y is defined }}", "{% set y = 0 %}{% for x in l %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}",
    "{% for x in l %}{% if loop.first %}{% set y = 5 %}{% endif %}{{ y is defined }}{% endfor %}", "{% for i in l %}{{ i }}{% endfor %}{{ i }}", "{% for loop in l %}{% endfor %}", "{% for x in l %}{% set loop = 1 %}{% endfor %}", "{% set loop = 5 %}{{ loop }}",
    "{% for x in range(10) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in range(5) %}{% if x == 3 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% break %}{% else %}else{% endfor %}",
    "{% for x in l %}{{ x }}{% if loop.index == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}", "{% for x in l %}{% continue %}{% else %}else{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{% else %}else{% endfor %}",
    "{% for x in l %}{% for y in ls %}{% if y == 'A' %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}", "{% for x in l %}{% with a = x %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endwith %}{% endfor %}after", "{% for x in l %}{% set c %}{{ x }}{% if x == 1 %}{% continue %}{% endif %}{% endset %}{{ c }};{% endfor %}",
    "{% for x in l %}{% filter upper %}a{% break %}{% endfilter %}{% endfor %}end", "{% for x in l %}{% for y in [] %}{% else %}{% break %}{% endfor %}x{% endfor %}end", "{% break %}", "{% continue %}", "{% if t %}{% break %}{% endif %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in l %}{% else %}{% break %}{% endfor %}",
    "{% for x in nest recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}{% if not loop.last %},{% endif %}{% endif %}{% endfor %}", "{% for x in nest recursive %}{{ loop.depth }}{% if x is iterable %}({{ loop(x) }}){% endif %}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in [[], [1]] recursive %}<{{ loop(x) if x is iterable }}>{% else %}E{% endfor %}",
    "{% for x in nest if x recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}{% endif %}{% endfor %}", "{% for x in l %}", "{% for x l %}{% endfor %}", "{% for in l %}{% endfor %}", "{% for 1 in l %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for x.y in l %}{% endfor %}", "{% for x in l recursive if x %}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|join }}|{{ g|join }}", "{% set g = l|select('odd') %}{% for x in g %}{{ x }}{% endfor %}|{% for x in g %}{{ x }}{% endfor %}", "{% set g = l|map('string') %}{{ g|first }}{{ g|join }}", "{% set g = l|map('string') %}{{ '1' in g }}{{ g|join }}", "{% for x in ls|reverse %}{{ x }}{{ loop.index }}{% endfor %}", "{% for k, v in dn.x.items() %}{{ k }}{{ v }}{% endfor %}",
    "{% for g in people|groupby('city') %}{{ g.grouper }}:{{ g.list|length }} {% endfor %}", "{% for c, ps in people|groupby('city') %}{{ c }}:{{ ps|map(attribute='name')|join('+') }} {% endfor %}", "{% for row in range(5)|batch(2) %}{{ row }}{% endfor %}",
    # set
    "{% set x = 1 %}{{ x }}", "{% set x = y = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1, 2] %}{{ a }}{{ b }}", "{% set (a, b) = 'xy' %}{{ a }}{{ b }}", "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set a, b = undefined_thing %}", "{% set x = 1, 2 %}{{ x }}",
    "{% set x %}a{{ i }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | replace('a', 'z') | upper %}abc{% endset %}{{ x }}", "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}", "{% set x %}{% endset %}[{{ x }}]{{ x is string }}", "{% set true = 1 %}", "{% set 1 = 1 %}", "{% set 'a' = 1 %}", "{% set d.x = 1 %}", "{% set l[0] = 1 %}", "{% set x %}", "{% set x", "{% set %}", "{% set x = %}", "{% set x.y.z = 1 %}",
    "{% set i = i + 1 %}{{ i }}", "{% if t %}{% set x = 1 %}{% endif %}{{ x }}", "{{ x is defined }}{% set x = 1 %}{{ x }}", "{% set f = 1 %}{% if z %}{% set f = 2 %}{% endif %}{{ f }}", "{% set x = [] %}{% set x = x + [1] %}{{ x }}", "{% set _x = 5 %}{{ _x }}", "{% set x = 'a' if t else 'b' %}{{ x }}", "{% set none = 1 %}",
    "{% set ns = namespace(x=0) %}{% for v in l %}{% set ns.x = ns.x + v %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns }}", "{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 3, 4 %}{{ ns.a }}{{ ns.b }}", "{% set ns.x = 1 %}", "{% set ns = namespace(l=[]) %}{% set ns.l = ns.l + [1] %}{{ ns.l }}", "{% set ns = namespace() %}{{ ns.zz }}|{{ ns.zz is defined }}", "{% set ns = namespace() %}{{ ns.zz.y }}", "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}", "{% set ns = namespace(items=1) %}{{ ns.items }}", "{% set ns = namespace() %}{% set ns.x %}cap{% endset %}{{ ns.x }}", "{% set ns = namespace(d) %}{{ ns.a }}",
    # macros
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=5) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro m(a) %}{{ kwargs }}{% endmacro %}{{ m(a=1, b=2) }}", "{% macro m() %}x{% endmacro %}{{ m }}", "{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}", "{% macro m() %}x{% endmacro %}{{ m() ~ m()|upper }}",
    "{% macro m(a, b) %}{% endmacro %}{{ m.nope is defined }}{{ m.nope.x }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x is defined }}", "{% macro m() %}{{ i }}{% endmacro %}{{ m() }}", "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a %}{% endmacro %}", "{% macro %}{% endmacro %}", "{% macro m() %}", "{% macro m(a=i) %}{{ a }}{% endmacro %}{{ m() }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m(a=l[0]) %}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}", "{%- macro m(x) -%}\n  {{ x }}\n{%- endmacro -%}\n[{{ m(1) }}]", "{% macro m(x) %}\n  {{ x }}\n{% endmacro %}\n[{{ m(1) }}]", "{% macro m(*a) %}{% endmacro %}", "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'a': 2}) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(*5) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(**5) }}", "{% macro m(a) %}{{ a is string }}{% endmacro %}{{ m('x') }}{{ m(1) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}[{{ caller(1, b=2) }}]{% endmacro %}{% call(a, b=3) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m(x) %}{{ x }}{{ caller(x) }}{% endmacro %}{% call(y) m(5) %}<{{ y }}{{ i }}>{% endcall %}", "{% call i %}{% endcall %}", "{% call s.upper() %}x{% endcall %}", "{% macro m() %}{% if caller %}c{% else %}n{% endif %}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}", "{% macro m(caller) %}{{ caller }}{% endmacro %}", "{% macro m(caller=1) %}{{ caller }}{% endmacro %}{{ m() }}", "{% for x in l %}{% call(z) m2(x) %}{{ x }}{% endcall %}{% endfor %}", "{% macro list(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) list(l) %}({{ x }}){% endcall %}", "{% call(x) %}{% endcall %}", "{% macro o() %}{{ caller() }}{% endmacro %}{% macro p() %}{% call o() %}{{ caller() }}!{% endcall %}{% endmacro %}{% call p() %}in{% endcall %}",
    # filter, with, block, print, generation, others
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}", "{% filter trim %}  x {% endfilter %}", "{% filter nope %}{% endfilter %}", "{% filter upper %}", "{% filter %}{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter upper %}{% set q = 'z' %}{{ q }}{% endfilter %}{{ q }}", "{% with %}x{% endwith %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with a = i %}{% set i = 9 %}{{ a }}{{ i }}{% endwith %}{{ i }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}", "{% with a %}{% endwith %}", "{% with a, b = 1, 2 %}{% endwith %}", "{% block x %}a{{ i }}{% endblock %}", "{% block x %}a{% endblock x %}b", "{% block x %}{% endblock %}{% block x %}{% endblock %}", "{% block x-y %}{% endblock %}", "{% set q = 1 %}{% for v in [5] %}{% block b %}{{ v is defined }}{{ q }}{% endblock %}{% endfor %}", "{% for v in [5] %}{% block b scoped %}{{ v }}{% endblock %}{% endfor %}", "{% print i %}", "{% print i, s %}", "{% print %}", "{% generation %}g{{ i }}{% endgeneration %}", "{% generation %}\n g\n{% endgeneration %}\nx", "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}", "{% generation %}", "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% generation %}{% set gg = 1 %}{% endgeneration %}{{ gg is defined }}", "{% autoescape false %}{{ q }}{% endautoescape %}", "{% include 'x' %}", "{% include 'x' ignore missing %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% if z %}{% include 'x' %}{% endif %}ok", "{% do l.append(1) %}", "{% trans %}x{% endtrans %}", "{% nope %}", "{% endnope %}", "{% if t %}{% nope %}{% endif %}", "{% 5 %}", "{% raw %}", "{% debug %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}", "{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{{ raise_exception('a\nb') }}", "{% if messages[0].role != 'user' %}{{ raise_exception('first must be user, got ' + messages[0].role) }}{% endif %}", "{{ 1 }}{{ raise_exception('late') }}",
    # chat idioms
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') + '<|im_end|>' + '\n' }}{% endfor %}", "{%- for m in messages -%}\n  {%- if m.role == 'user' -%}\n    [INST] {{ m.content | trim }} [/INST]\n  {%- elif m.content is string -%}\n    {{ ' ' ~ m.content }}\n  {%- endif -%}\n{%- endfor -%}", "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ system_message }}{{ loop_messages|length }}", "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}{% endfor %}", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ add_generation_prompt }}", "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\n        {%- set ns.multi_step_tool = false %}\n        {%- set ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n{{ ns.last_query_index }}", "{%- for tc in messages[2].tool_calls %}{{- '{\"name\": \"' + tc.name + '\", ' }}{{- '\"arguments\": ' }}{{- tc.arguments | tojson }}{{- '}' }}{%- endfor %}", "{% set content = 'a</think>b' %}{% if '</think>' in content %}{{ content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}|{{ content.split('</think>')[-1].lstrip('\n') }}{% endif %}", "{{ messages|map(attribute='content')|select('string')|join('|') }}", "{% for m in messages %}{{ m.content if m.content is not none else 'null' }}{% endfor %}", "{% set dates = strftime_now('%d %b %Y') if strftime_now is defined else 'none' %}{{ dates }}", "{%- macro render(v) -%}{%- if v is mapping -%}{ {%- for k, x in v|dictsort -%}{{ k }}:{{ render(x) }}{% if not loop.last %},{% endif %}{%- endfor -%} }{%- elif v is string -%}\"{{ v }}\"{%- elif v is sequence -%}[{%- for x in v -%}{{ render(x) }}{% if not loop.last %},{% endif %}{%- endfor -%}]{%- else -%}{{ v }}{%- endif -%}{%- endmacro -%}{{ render(dn) }}{{ render(messages) }}",
]


def main():
    cases = [{"template": "{{ " + e + " }}"} for e in EXPRESSIONS] + [{"template": t} for t in TEMPLATES]
    seen, unique = set(), []
    for case in cases:
        if case["template"] in seen:
            continue
        seen.add(case["template"])
        unique.append({**case, **outcome(case["template"], CONTEXT)})
    # Addresses of objects differ from run to run, and these functions live elsewhere in transformers.
    unique = [c for c in unique if not any(x in c.get("text", "") + c.get("error", "") for x in (" at 0x", "<locals>"))]
    rows = ",\n".join(json.dumps(c, ensure_ascii=False) for c in unique)
    text = '{"jinja2": %s, "now": "%s", "context":\n%s,\n"cases": [\n%s\n]}\n' % (
        json.dumps(jinja2.__version__), NOW.isoformat(), json.dumps(CONTEXT, ensure_ascii=False), rows)
    if "--check" in sys.argv:
        sys.exit(0 if OUT.read_text() == text else f"{OUT} is stale: run {sys.argv[0]}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text)
    print(f"{len(unique)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
