"""Formats that v2a lets FFmpeg read: allow-lists of containers and of codecs.

FFmpeg knows 300 decoders. Those of computer games, teletext pages and image formats of the 1980s are rarely tested, and
no archive of films needs them. Names are FFmpeg's.
"""

from __future__ import annotations

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ogg,"
    "asf,asf_o,mxf,nut,rm,ivf,dv,wtv,dhav,mjpeg,yuv4mpegpipe,wav,w64,mp3,flac,aac,ac3,eac3,aiff,caf,au,amr"
)
"""Containers: one self-contained file each. Playlists and manifests (hls, dash, concat, imf, sdp, image sequences, ...)
name other files or URLs and are left out."""

_PICTURES = (
    # Delivery: discs, broadcast, cameras, recorders, the web.
    "mpeg1video,mpeg2video,mpegvideo,mpeg4,msmpeg4,msmpeg4v1,msmpeg4v2,h261,h263,h263i,h263p,h264,hevc,vvc,av1,"
    "libdav1d,"
    "cavs,vc1,vc1image,wmv1,wmv2,wmv3,wmv3image,mss1,mss2,vp3,vp4,vp5,vp6,vp6a,vp6f,vp7,vp8,vp9,libvpx,libvpx-vp9,"
    "theora,dirac,flv,flashsv,flashsv2,rv10,rv20,rv30,rv40,rv60,svq1,svq3,cinepak,indeo2,indeo3,indeo4,indeo5,"
    "msvideo1,msrle,rpza,qtrle,8bps,asv1,asv2,mjpeg,mjpegb,smvjpeg,sp5x,amv,mxpeg,mimic,aic,snow,"
    # Archives and edit suites.
    "prores,prores_raw,dnxhd,cfhd,dvvideo,jpeg2000,jpegls,ffv1,ffvhuff,huffyuv,hymt,utvideo,lagarith,magicyuv,loco,"
    "sheervideo,vble,cllc,hap,dxv,hq_hqa,hqx,notchlc,speedhq,media100,pixlet,fraps,"
    # Without compression, and pictures one by one.
    "rawvideo,bitpacked,012v,v210,v210x,v308,v408,v410,y41p,yuv4,r10k,r210,avrp,avrn,avui,cljr,aasc,"
    "dpx,exr,tiff,png,apng,bmp,targa,webp,gif,"
    # The screen.
    "zlib,mszh,zmbv,tscc2,camtasia,camstudio,"
)

_SOUND = (
    "aac,aac_latm,ac3,eac3,dca,truehd,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3float,mp3on4,mp3on4float,mp3adu,"
    "mp3adufloat,opus,libopus,vorbis,flac,alac,als,ape,tak,tta,wavpack,mpc7,mpc8,shorten,ralf,wmav1,wmav2,wmapro,"
    "wmalossless,wmavoice,cook,sipr,real_144,real_288,atrac1,atrac3,atrac3al,atrac3plus,atrac3plusal,qdm2,qdmc,mace3,"
    "mace6,nellymoser,speex,gsm,gsm_ms,ilbc,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,qcelp,evrc,truespeech,"
    "g722,g723_1,g726,g726le,g728,g729,dss_sp,dst,dsd_lsbf,dsd_lsbf_planar,dsd_msbf,dsd_msbf_planar,dolby_e,s302m,"
    "dvaudio,twinvq,aptx,aptx_hd,imc,iac,"
    "adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_ima_amv,adpcm_ima_oki,adpcm_ct,adpcm_swf,adpcm_yamaha,adpcm_sbpro_2,"
    "adpcm_sbpro_3,adpcm_sbpro_4,adpcm_adx,adpcm_xa,"
    "pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,pcm_lxf,pcm_vidc,pcm_f16le,pcm_f24le,pcm_f32be,pcm_f32le,pcm_f64be,"
    "pcm_f64le,pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24daud,pcm_s24le,pcm_s24le_planar,"
    "pcm_s32be,pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,pcm_u16le,pcm_u24be,"
    "pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,"
)

_SUBTITLES = "ass,ssa,srt,subrip,mov_text,webvtt,text,dvbsub,dvdsub,pgssub,xsub,cc_dec"

PICTURES = frozenset(_PICTURES.strip(",").split(","))
"""Decoders of pictures."""

DECODERS = _PICTURES + _SOUND + _SUBTITLES
"""Every decoder that may run, as FFmpeg takes the list (`codec_whitelist`)."""

PLAYLISTS = (
    b"#extm3u",
    b"ffconcat",
    b"[playlist]",
    b"[reference]",
    b"<asx",
    b"<mpd",
    b"<smil",
    b"<assetmap",
    b"<compositionplaylist",
    b"v=0\no=",
    b"v=0\r\no=",
    b"rtsptext",
    b"smilitext",
)
"""Beginnings of playlists, in lower case."""
