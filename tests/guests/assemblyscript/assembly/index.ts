// A filter in AssemblyScript. A request's field `x-case` names what is done with it, and each
// step is told in the log; `tests/conformance/cases/assemblyscript.play` has the cases.

export * from "@solo-io/proxy-runtime/proxy";
import {
  BaseContext, Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, Gauge,
  FilterTrailersStatusValues, GrpcStatusValues, HeaderPair, LogLevelValues, RootContext,
  WasmResultValues, log, registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import {
  BufferTypeValues, get_buffer_bytes, get_current_time_nanoseconds, get_property,
  set_property, set_tick_period_milliseconds, get_metric,
} from "@solo-io/proxy-runtime/runtime";

/** After so many ticks there are no more. */
const TICKS: u32 = 2;

function tell(name: string, text: string): void {
  log(LogLevelValues.info, name + "> " + text);
}

function text(bytes: ArrayBuffer): string {
  return String.UTF8.decode(bytes);
}

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

class Root extends RootContext {
  ticks: u32 = 0;

  createContext(id: u32): Context {
    return new Exchange(id, this);
  }

  onConfigure(size: u32): bool {
    tell("root", "onConfigure " + (size > 0).toString());
    return super.onConfigure(size);
  }

  onTick(): void {
    this.ticks += 1;
    tell("root", "onTick " + this.ticks.toString());
    if (this.ticks == TICKS) {
      set_tick_period_milliseconds(0);
    }
  }
}

class Exchange extends Context {
  name: string = "";

  constructor(id: u32, root: Root) {
    super(id, root);
  }

  onRequestHeaders(fields: u32, isEnd: bool): FilterHeadersStatusValues {
    this.name = stream_context.headers.request.get("x-case");
    tell(this.name, "onRequestHeaders " + fields.toString() + " " + isEnd.toString());
    if (this.name == "headers") {
      const request = stream_context.headers.request;
      tell(this.name, "x-a " + request.get("x-a"));
      tell(this.name, "none [" + request.get("x-none") + "]");
      request.replace("x-a", "changed");
      request.add("x-more", "1");
      request.remove("x-gone");
      tell(this.name, request.get_headers().length.toString() + " fields");
    } else if (this.name == "replies") {
      const body = String.UTF8.encode("no");
      send_local_response(403, "by a filter", body, [pair("x-by", "as")], GrpcStatusValues.PermissionDenied);
      return FilterHeadersStatusValues.StopIteration;
    } else if (this.name == "calls" || this.name == "calls_nobody") {
      return this.call(this.name == "calls" ? "callee" : "nobody");
    } else if (this.name == "metrics") {
      this.metrics();
    } else if (this.name == "properties") {
      tell(this.name, text(get_property("plugin_name")));
      tell(this.name, text(get_property("request\0path")));
      set_property("mine", String.UTF8.encode("value"));
      tell(this.name, text(get_property("mine")));
      tell(this.name, "a time " + (get_current_time_nanoseconds() > 0).toString());
    } else if (this.name == "ticks") {
      set_tick_period_milliseconds(20);
    } else if (this.name == "aborts") {
      assert(false, "as told");
    }
    return FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, isEnd: bool): FilterDataStatusValues {
    tell(this.name, "onRequestBody " + size.toString() + " " + isEnd.toString());
    if (this.name == "bodies") {
      if (!isEnd) {
        return FilterDataStatusValues.StopIterationAndBuffer;
      }
      tell(this.name, text(get_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, size as u32)));
    }
    return FilterDataStatusValues.Continue;
  }

  onRequestTrailers(fields: u32): FilterTrailersStatusValues {
    tell(this.name, "onRequestTrailers " + fields.toString());
    stream_context.trailers.request.replace("x-end", "changed");
    return FilterTrailersStatusValues.Continue;
  }

  onResponseHeaders(fields: u32, isEnd: bool): FilterHeadersStatusValues {
    tell(this.name, "onResponseHeaders " + fields.toString() + " " + isEnd.toString());
    if (this.name == "headers") {
      tell(this.name, ":status " + stream_context.headers.response.get(":status"));
      stream_context.headers.response.add("hello", "world");
    }
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, isEnd: bool): FilterDataStatusValues {
    tell(this.name, "onResponseBody " + size.toString() + " " + isEnd.toString());
    return FilterDataStatusValues.Continue;
  }

  onLog(): void {
    tell(this.name, "onLog");
  }

  onDone(): bool {
    tell(this.name, "onDone");
    return true;
  }

  onDelete(): void {
    tell(this.name, "delete");
  }

  private call(cluster: string): FilterHeadersStatusValues {
    const fields = [pair(":method", "GET"), pair(":path", "/"), pair(":authority", "a")];
    const nothing = new ArrayBuffer(0);
    const called = this.root_context.httpCall(
      cluster, fields, nothing, [], 1000, this,
      (origin: BaseContext, fields: u32, size: usize, trailers: u32) => {
        const it = changetype<Exchange>(origin);
        tell(it.name, "answered " + size.toString());
        tell(it.name, ":status " + stream_context.headers.http_callback.get(":status"));
        const body = get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, 5);
        tell(it.name, text(body));
        it.continueRequest();
      }
    );
    tell(this.name, "called " + (called == WasmResultValues.Ok).toString());
    return FilterHeadersStatusValues.StopIteration;
  }

  private metrics(): void {
    const counter = new Counter("as.counter");
    counter.increment(3);
    const gauge = new Gauge("as.gauge");
    gauge.increment(-2);
    tell(this.name, get_metric(counter.metric_id).data.toString());
    tell(this.name, get_metric(gauge.metric_id).data.toString());
  }
}

registerRootContext((id: u32) => { return new Root(id); }, "as");
