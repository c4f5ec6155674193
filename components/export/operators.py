"""The operators that a served graph may use: the ONNX standard's arithmetic, shapes, networks and control flow.

Left out on purpose is whatever draws random numbers (noise is an input, so a session may not make its own), reads text or
pictures, handles sequences, optionals or maps, or belongs to another domain than the standard's: none of it is needed to turn
noise into an image, and each is a way in.
"""

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

ARITHMETIC = (
    "Abs Acos Acosh Add Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Cos Cosh CumSum "
    "Div Erf Exp Floor IsInf IsNaN Log Max Mean Min Mod Mul Neg Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan Tanh"
)
COMPARISON = "And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where Xor"
ACTIVATION = (
    "Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink Sigmoid Softmax Softplus "
    "Softsign ThresholdedRelu"
)
REDUCTION = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare TopK"
)
LINEAR = "Conv ConvTranspose Det Einsum Gemm MatMul"
NORMALISATION = "BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization"
POOLING = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool"
SHAPE = (
    "CenterCropPad Col2Im Compress Concat ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather GatherElements "
    "GatherND GridSample Identity NonZero OneHot Pad Range Reshape Resize ReverseSequence ScatterElements ScatterND Shape "
    "Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze"
)
TYPE = "Cast CastLike Constant DequantizeLinear DynamicQuantizeLinear QuantizeLinear"
QUANTISED = "ConvInteger MatMulInteger QLinearConv QLinearMatMul"
CONTROL = "If Loop Scan"

ALLOWED = frozenset(
    " ".join(
        (ARITHMETIC, COMPARISON, ACTIVATION, REDUCTION, LINEAR, NORMALISATION, POOLING, SHAPE, TYPE, QUANTISED, CONTROL)
    ).split()
)
HEAVY = frozenset(LINEAR.split()) | frozenset(NORMALISATION.split()) | frozenset(QUANTISED.split())
"""Those that must run on the device that is meant: the others may be small bookkeeping that a provider leaves to the CPU."""
