"""libllrt from Python, for what the programs do not show: chunks and batches chosen freely."""
import ctypes
import json
import pathlib

import numpy as np


class OpenParams(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_int32), ("verify_weights", ctypes.c_int32),
                ("isa", ctypes.c_char_p), ("model_dir", ctypes.c_char_p), ("device", ctypes.c_char_p),
                ("launch_mode", ctypes.c_int32), ("reserved", ctypes.c_int32)]


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(str(pathlib.Path(path).resolve()))
        self.c.llrt_last_error.restype = self.c.llrt_model_json.restype = ctypes.c_char_p
        self.c.llrt_session_length.restype = ctypes.c_size_t

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.c.llrt_last_error().decode())

    def open(self, plan, device, launch_mode=0):
        return Model(self, plan, device, launch_mode)


class Model:
    def __init__(self, library, plan, device, launch_mode):
        self.library, self.handle = library, ctypes.c_void_p()
        params = OpenParams()
        library.check(library.c.llrt_open_params_init(ctypes.byref(params), ctypes.c_size_t(ctypes.sizeof(params))))
        params.device, params.launch_mode = device.encode(), launch_mode
        library.check(library.c.llrt_model_open(str(plan).encode(), ctypes.byref(params), ctypes.byref(self.handle)))
        self.vocab_size = json.loads(library.c.llrt_model_json(self.handle))["model"]["vocab_size"]

    def close(self):
        """Sessions first."""
        self.library.c.llrt_model_close(self.handle)

    def session(self):
        return Session(self)

    def decode(self, sessions, tokens):
        """Appends a token to each session, in one step if the plan can; the logits that follow each."""
        handles = (ctypes.c_void_p * len(sessions))(*(s.handle for s in sessions))
        ids = (ctypes.c_int32 * len(sessions))(*map(int, tokens))
        self.library.check(self.library.c.llrt_session_decode(handles, ids, ctypes.c_size_t(len(sessions))))
        return np.stack([s.logits() for s in sessions])


class Session:
    def __init__(self, model):
        self.model, self.handle = model, ctypes.c_void_p()
        model.library.check(model.library.c.llrt_session_create(model.handle, ctypes.byref(self.handle)))

    def close(self):
        self.model.library.c.llrt_session_free(self.handle)

    def prefill(self, ids):
        """The logits that follow each of the tokens."""
        ids = np.ascontiguousarray(ids, np.int32)
        out = np.full((len(ids), self.model.vocab_size), np.nan, np.float32)
        self.model.library.check(self.model.library.c.llrt_session_prefill_logits(
            self.handle, ids.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(ids)),
            out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(out.size)))
        return out

    def logits(self):
        data, count = ctypes.POINTER(ctypes.c_float)(), ctypes.c_size_t()
        self.model.library.check(
            self.model.library.c.llrt_session_logits(self.handle, ctypes.byref(data), ctypes.byref(count)))
        return np.ctypeslib.as_array(data, (count.value,)).copy()
